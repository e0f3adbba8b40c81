// Writes messages with Watermill's googlecloud library and prints them, as JSON lines: what Google's client sent for
// each, with an id and a time as the service adds them, and what the library reads of that.
//
//	go mod init fixtures && go get github.com/ThreeDotsLabs/watermill-googlecloud/v2@v2.0.0 && go mod tidy
//	go run . > messages.jsonl
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/ThreeDotsLabs/watermill-googlecloud/v2/pkg/googlecloud"
	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

type line struct {
	// A google.pubsub.v1.PubsubMessage.
	Sent []byte `json:"sent"`
	ID   string `json:"id"`
	// What the library made of it.
	UUID     string            `json:"uuid"`
	Payload  []byte            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

func main() {
	server := pstest.NewServer()
	defer server.Close()
	var lines []line
	capture := func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
		invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if publish, ok := request.(*pubsubpb.PublishRequest); ok {
			for _, sent := range publish.Messages {
				lines = append(lines, reads(sent, fmt.Sprint(100+len(lines))))
			}
		}
		return invoke(ctx, method, request, reply, connection, options...)
	}
	publisher, err := googlecloud.NewPublisher(googlecloud.PublisherConfig{
		ProjectID:             "project",
		EnableMessageOrdering: true,
		Marshaler: googlecloud.NewOrderingMarshaler(func(topic string, msg *message.Message) (string, error) {
			return msg.Metadata.Get("customer"), nil
		}),
		ClientOptions: []option.ClientOption{
			option.WithEndpoint(server.Addr),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
			option.WithGRPCDialOption(grpc.WithUnaryInterceptor(capture)),
		},
	}, nil)
	check(err)

	var bytes []byte
	for b := 0; b < 256; b++ {
		bytes = append(bytes, byte(b))
	}
	plain := message.NewMessage("0c0b4a9c-6f0b-4c1e-8f6a-0e6f2c1f1a7d", bytes)
	plain.Metadata = message.Metadata{"correlation_id": "abc", "empty": "", "größe": "ein Maß \u2028\n\x00"}
	ordered := message.NewMessage("ordered", []byte("{}"))
	ordered.Metadata = message.Metadata{"customer": "Kundin 7"}
	empty := message.NewMessage("", nil)
	for _, msg := range []*message.Message{plain, ordered, empty} {
		check(publisher.Publish("orders", msg))
	}
	// What was read and is published again, as a router of Go's does.
	again := message.NewMessage(lines[0].UUID, lines[0].Payload)
	// A copy, for the library writes the service's id into it.
	again.Metadata = maps.Clone(lines[0].Metadata)
	check(publisher.Publish("orders", again))
	check(publisher.Close())
	for _, line := range lines {
		text, err := json.Marshal(line)
		check(err)
		fmt.Println(string(text))
	}
}

// reads lets the service add what it adds, and the library read it.
func reads(sent *pubsubpb.PubsubMessage, id string) line {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(sent)
	check(err)
	msg, err := googlecloud.DefaultMarshalerUnmarshaler{}.Unmarshal(&pubsub.Message{
		ID:          id,
		Data:        sent.Data,
		Attributes:  sent.Attributes,
		PublishTime: time.Date(2026, 11, 27, 0, 5, 12, 340_000_000, time.UTC),
		OrderingKey: sent.OrderingKey,
	})
	check(err)
	return line{bytes, id, msg.UUID, msg.Payload, msg.Metadata}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
