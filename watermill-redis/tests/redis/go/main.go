// Writes the fixtures of the other side: JSON lines, from Watermill's library for streams of Redis.
//
//	go mod init fixtures && go get github.com/ThreeDotsLabs/watermill-redisstream@v1.4.5 && go mod tidy
//	export REDIS_URL=redis://localhost:6379/
//	go run . publish > published_by_go.jsonl
//	go run . read < entries.jsonl > read_by_go.jsonl
//
// `publish` has the library publish messages, and tells the fields of the entries. `read` has it read entries, each as
// {"fields": [base64, ..]}, and tells what it made of them. A test whose entries are no longer those that the library has read
// prints its own.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

type line struct {
	// Names and values in turn.
	Fields   [][]byte          `json:"fields"`
	UUID     string            `json:"uuid"`
	Payload  []byte            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

var ctx = context.Background()

func main() {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	check(err)
	client := redis.NewClient(options)
	topic := "fixtures-" + watermill.NewUUID()
	defer client.Del(ctx, topic)
	switch {
	case len(os.Args) == 2 && os.Args[1] == "publish":
		publish(client, topic)
	case len(os.Args) == 2 && os.Args[1] == "read":
		read(client, topic)
	default:
		panic("say `publish` or `read`")
	}
}

func publish(client *redis.Client, topic string) {
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: client}, watermill.NopLogger{})
	check(err)
	for at, m := range messages() {
		check(publisher.Publish(topic, m))
		entries, err := client.Do(ctx, "XRANGE", topic, "-", "+").Slice()
		check(err)
		var fields [][]byte
		for _, field := range entries[at].([]any)[1].([]any) {
			fields = append(fields, []byte(field.(string)))
		}
		write(line{Fields: fields, UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
	}
}

func messages() []*message.Message {
	plain := message.NewMessage("8f7c1f6e-7c1b-4f4e-9c3f-2d0c3a9f0b11", []byte(`{"order":"7"}`))
	plain.Metadata.Set("correlation_id", "c-1")
	odd := message.NewMessage("größe", []byte{0, 255, 10, 13})
	odd.Metadata.Set("grüße", "größer <&> 日本 🦀")
	odd.Metadata.Set("lines", "one\ntwo\t\"three\"\\")
	odd.Metadata.Set("empty", "")
	wide := message.NewMessage("wide", []byte("x"))
	for n := range 20 {
		wide.Metadata.Set(fmt.Sprintf("name-%d-%040d", n, n), fmt.Sprintf("%0300d", n))
	}
	bare := message.NewMessage("", nil)
	null := message.NewMessage("null", []byte("x"))
	null.Metadata = nil
	return []*message.Message{plain, odd, wide, bare, null}
}

func read(client *redis.Client, topic string) {
	subscriber, err := redisstream.NewSubscriber(
		redisstream.SubscriberConfig{Client: client, ConsumerGroup: "fixtures"},
		watermill.NopLogger{},
	)
	check(err)
	received, err := subscriber.Subscribe(ctx, topic)
	check(err)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var sent line
		check(json.Unmarshal(lines.Bytes(), &sent))
		add := []any{"XADD", topic, "*"}
		for _, field := range sent.Fields {
			add = append(add, field)
		}
		check(client.Do(ctx, add...).Err())
		m := <-received
		write(line{Fields: sent.Fields, UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
		m.Ack()
	}
	check(lines.Err())
}

func write(l line) {
	text, err := json.Marshal(l)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
