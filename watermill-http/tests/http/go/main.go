// Writes the fixtures of the other side: JSON lines, from Watermill's http library.
//
//	go mod init fixtures && go get github.com/ThreeDotsLabs/watermill-http/v2@v2.3.1 && go mod tidy
//	go run . publish > published_by_go.jsonl
//	go run . read < requests.jsonl > read_by_go.jsonl
//
// `publish` has the library post messages, and tells the bytes that arrived. `read` has it receive requests, each as
// {"request": base64}, and tells what it made of them. A test that no longer sends what the library has read prints the
// requests that it sends.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	watermillhttp "github.com/ThreeDotsLabs/watermill-http/v2/pkg/http"
	"github.com/ThreeDotsLabs/watermill/message"
)

type line struct {
	// As it went over the connection, with a port that is always the same.
	Request  []byte            `json:"request"`
	UUID     string            `json:"uuid"`
	Payload  []byte            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

const host = "localhost:8080"

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "publish":
		publish()
	case len(os.Args) == 2 && os.Args[1] == "read":
		read()
	default:
		panic("say `publish` or `read`")
	}
}

func publish() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	requests := make(chan []byte)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			requests <- take(connection)
		}
	}()
	publisher, err := watermillhttp.NewPublisher(
		watermillhttp.PublisherConfig{MarshalMessageFunc: watermillhttp.DefaultMarshalMessageFunc},
		watermill.NopLogger{},
	)
	check(err)
	url := "http://" + listener.Addr().String() + "/hooks/orders"
	for _, m := range messages() {
		published := make(chan error)
		go func() { published <- publisher.Publish(url, m) }()
		request := bytes.ReplaceAll(<-requests, []byte(listener.Addr().String()), []byte(host))
		check(<-published)
		write(line{Request: request, UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
	}
}

// The bytes of one request, which is answered with 200.
func take(connection net.Conn) []byte {
	defer connection.Close()
	var seen bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(connection, &seen)))
	check(err)
	_, err = io.Copy(io.Discard, request.Body)
	check(err)
	_, err = io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	check(err)
	return seen.Bytes()
}

func messages() []*message.Message {
	plain := message.NewMessage("8f7c1f6e-7c1b-4f4e-9c3f-2d0c3a9f0b11", []byte(`{"order":"7"}`))
	plain.Metadata.Set("correlation_id", "c-1")
	odd := message.NewMessage("größe", []byte{0, 255, 10, 13})
	odd.Metadata.Set("grüße", "größer <&> 日本 🦀")
	odd.Metadata.Set("lines", "one\ntwo\t\"three\"\\")
	odd.Metadata.Set("empty", "")
	bare := message.NewMessage("", nil)
	null := message.NewMessage("null", []byte("x"))
	null.Metadata = nil
	return []*message.Message{plain, odd, bare, null}
}

func read() {
	subscriber, err := watermillhttp.NewSubscriber("127.0.0.1:0", watermillhttp.SubscriberConfig{}, watermill.NopLogger{})
	check(err)
	received, err := subscriber.Subscribe(context.Background(), "/hooks/orders")
	check(err)
	go func() { _ = subscriber.StartHTTPServer() }()
	for subscriber.Addr() == nil {
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var sent line
		check(json.Unmarshal(lines.Bytes(), &sent))
		connection, err := net.Dial("tcp", subscriber.Addr().String())
		check(err)
		_, err = connection.Write(sent.Request)
		check(err)
		m := <-received
		m.Ack()
		status, err := bufio.NewReader(connection).ReadString('\n')
		check(err)
		if !strings.Contains(status, " 200 ") {
			panic(status)
		}
		connection.Close()
		write(line{Request: sent.Request, UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
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
