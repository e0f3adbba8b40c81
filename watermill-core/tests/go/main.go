// Writes the fixtures of the other side: JSON lines, from Watermill's components for commands, events, and replies.
//
//	go mod init fixtures && go get github.com/ThreeDotsLabs/watermill@v1.5.1 && go mod tidy
//	go run . write > written_by_go.jsonl
//	go run . read < written_here.jsonl > read_by_go.jsonl
//
// `write` has the library's marshalers write messages. `read` has them read messages, each as {"what", "uuid", "metadata",
// "payload": base64}, and tells what they made of them. A test that no longer writes what the library has read prints the lines
// that it writes.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/components/requestreply"
	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type BookRoom struct {
	Room  uint32 `json:"room"`
	Guest string `json:"guest"`
}

type RoomBooked struct {
	Room uint32 `json:"room"`
}

func (RoomBooked) Name() string { return "hotel.room-booked" }

type line struct {
	What     string            `json:"what"`
	UUID     string            `json:"uuid"`
	Metadata map[string]string `json:"metadata"`
	Payload  []byte            `json:"payload"`
}

type read struct {
	What  string `json:"what"`
	Name  string `json:"name"`
	Value any    `json:"value"`
	Error string `json:"error"`
}

var (
	full   = cqrs.JSONMarshaler{}
	short  = cqrs.JSONMarshaler{GenerateName: cqrs.StructName}
	named  = cqrs.JSONMarshaler{GenerateName: cqrs.NamedStruct(cqrs.FullyQualifiedStructName)}
	proto  = cqrs.ProtoMarshaler{}
	result = requestreply.BackendPubsubJSONMarshaler[uint32]{}
	none   = requestreply.BackendPubsubJSONMarshaler[requestreply.NoResult]{}
)

func main() {
	switch os.Args[1] {
	case "write":
		write()
	case "read":
		readAll()
	}
}

func write() {
	book := &BookRoom{Room: 7, Guest: "Ada <&> \u2028"}
	print("command", must(full.Marshal(book)))
	print("command-short", must(short.Marshal(book)))
	print("event", must(named.Marshal(&RoomBooked{Room: 7})))
	print("proto", must(proto.Marshal(wrapperspb.String("Ada"))))
	request := must(full.Marshal(book))
	request.Metadata.Set(requestreply.OperationIDMetadataKey, "6a3f6d94-8b9c-4a3e-9d0b-5f8f7b5f0001")
	print("request", request)
	print("reply", reply(result, 560, nil))
	print("failed", reply(result, 0, errors.New("no such room")))
	print("done", reply(none, requestreply.NoResult{}, nil))
}

func reply[R any](marshaler requestreply.BackendPubsubJSONMarshaler[R], value R, err error) *message.Message {
	params := requestreply.BackendOnCommandProcessedParams[R]{HandlerResult: value, HandleErr: err}
	msg := must(marshaler.MarshalReply(params))
	msg.Metadata.Set(requestreply.OperationIDMetadataKey, "6a3f6d94-8b9c-4a3e-9d0b-5f8f7b5f0001")
	return msg
}

func readAll() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var in line
		if err := json.Unmarshal(lines.Bytes(), &in); err != nil {
			panic(err)
		}
		msg := message.NewMessage(in.UUID, in.Payload)
		for name, value := range in.Metadata {
			msg.Metadata.Set(name, value)
		}
		out := read{What: in.What}
		var err error
		switch in.What {
		case "command", "request":
			var book BookRoom
			out.Name, err = full.NameFromMessage(msg), full.Unmarshal(msg, &book)
			out.Value = book
			if out.Name != full.Name(book) {
				err = errors.New("not the name of the type: " + full.Name(book))
			}
		case "event":
			var booked RoomBooked
			out.Name, err = named.NameFromMessage(msg), named.Unmarshal(msg, &booked)
			out.Value = booked
			if out.Name != named.Name(booked) {
				err = errors.New("not the name of the type: " + named.Name(booked))
			}
		case "proto":
			var text wrapperspb.StringValue
			out.Name, err = proto.NameFromMessage(msg), proto.Unmarshal(msg, &text)
			out.Value = text.Value
			if out.Name != proto.Name(&text) {
				err = errors.New("not the name of the type: " + proto.Name(&text))
			}
		case "reply", "failed":
			got, unmarshalled := result.UnmarshalReply(msg)
			out.Value, err = got.HandlerResult, errors.Join(got.Error, unmarshalled)
		case "done":
			got, unmarshalled := none.UnmarshalReply(msg)
			out.Value, err = got.HandlerResult, errors.Join(got.Error, unmarshalled)
		}
		if err != nil {
			out.Error = err.Error()
		}
		fmt.Println(string(must(json.Marshal(out))))
	}
}

func print(what string, msg *message.Message) {
	// A reader does not depend on it, and it is another each time.
	out := line{What: what, UUID: "1", Metadata: msg.Metadata, Payload: msg.Payload}
	fmt.Println(string(must(json.Marshal(out))))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
