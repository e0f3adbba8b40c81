// Writes the fixtures of the other side: JSON lines, from Watermill's NATS library.
//
//	go mod init fixtures && go get github.com/ThreeDotsLabs/watermill-nats/v2@v2.1.3 && go mod tidy
//	go run . publish > published_by_go.jsonl
//	go run . read < messages.jsonl > read_by_go.jsonl
//
// Both need a server with JetStream, by NATS_URL. `publish` has the library publish messages, with its default marshaler and
// message ids for deduplication, and tells the bytes of each that the server hands out. `read` has the library receive
// messages, each as {"headers": base64, "body": base64}, and tells what it made of them. A test that no longer sends what the library
// has read prints the messages that it sends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
)

type line struct {
	// As it went over the connection: the block of headers, and what follows it.
	Headers  []byte            `json:"headers"`
	Body     []byte            `json:"body"`
	UUID     string            `json:"uuid"`
	Payload  []byte            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

func main() {
	url := os.Getenv("NATS_URL")
	topic := fmt.Sprintf("fixtures-%d", time.Now().UnixNano())
	switch {
	case len(os.Args) == 2 && os.Args[1] == "publish":
		publish(url, topic)
	case len(os.Args) == 2 && os.Args[1] == "read":
		read(url, topic)
	default:
		panic("say `publish` or `read`")
	}
}

func publish(url, topic string) {
	raw := connect(url)
	raw.say("SUB " + topic + " 1\r\nPING\r\n")
	raw.until("PONG")
	publisher, err := wnats.NewPublisher(wnats.PublisherConfig{
		URL:       url,
		JetStream: wnats.JetStreamConfig{AutoProvision: true, TrackMsgId: true},
	}, watermill.NopLogger{})
	check(err)
	for _, m := range messages() {
		check(publisher.Publish(topic, m))
		// HMSG <subject> <sid> [reply] <bytes of headers> <bytes>
		words := strings.Fields(raw.until("HMSG"))
		var headers, all int
		_, err := fmt.Sscan(words[len(words)-2]+" "+words[len(words)-1], &headers, &all)
		check(err)
		bytes := make([]byte, all+2)
		_, err = io.ReadFull(raw.reader, bytes)
		check(err)
		write(line{Headers: bytes[:headers], Body: bytes[headers:all], UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
	}
}

func messages() []*message.Message {
	plain := message.NewMessage("8f7c1f6e-7c1b-4f4e-9c3f-2d0c3a9f0b11", []byte(`{"order":"7"}`))
	plain.Metadata.Set("correlation_id", "c-1")
	odd := message.NewMessage("größe", []byte{0, 255, 10, 13})
	odd.Metadata.Set("script", "größer <&> 日本 🦀")
	odd.Metadata.Set("Case", "upper")
	odd.Metadata.Set("case", "lower")
	odd.Metadata.Set("empty", "")
	bare := message.NewMessage("2", nil)
	null := message.NewMessage("null", []byte("x"))
	null.Metadata = nil
	return []*message.Message{plain, odd, bare, null}
}

func read(url, topic string) {
	subscriber, err := wnats.NewSubscriber(wnats.SubscriberConfig{
		URL:       url,
		JetStream: wnats.JetStreamConfig{Disabled: true},
	}, watermill.NopLogger{})
	check(err)
	received, err := subscriber.Subscribe(context.Background(), topic)
	check(err)
	raw := connect(url)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	// The subscription may not have reached the server yet.
	time.Sleep(time.Second)
	for lines.Scan() {
		var sent line
		check(json.Unmarshal(lines.Bytes(), &sent))
		raw.say(fmt.Sprintf("HPUB %s %d %d\r\n", topic, len(sent.Headers), len(sent.Headers)+len(sent.Body)))
		raw.say(string(sent.Headers) + string(sent.Body) + "\r\n")
		m := <-received
		m.Ack()
		write(line{Headers: sent.Headers, Body: sent.Body, UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
	}
	check(lines.Err())
}

type raw struct {
	net.Conn
	reader *bufio.Reader
}

func connect(url string) raw {
	connection, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
	check(err)
	r := raw{connection, bufio.NewReader(connection)}
	r.say("CONNECT {\"verbose\":false,\"headers\":true,\"protocol\":1}\r\nPING\r\n")
	r.until("PONG")
	return r
}

func (r raw) say(text string) {
	_, err := io.WriteString(r, text)
	check(err)
}

// The first line that begins so.
func (r raw) until(word string) string {
	for {
		text, err := r.reader.ReadString('\n')
		check(err)
		if strings.HasPrefix(text, word) {
			return strings.TrimSpace(text)
		}
	}
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
