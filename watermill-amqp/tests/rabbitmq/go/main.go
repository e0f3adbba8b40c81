// Writes the fixtures of the other side: JSON lines, from Watermill's AMQP library and a RabbitMQ.
//
//	go mod init fixtures && go get github.com/ThreeDotsLabs/watermill-amqp/v3@v3.0.2 && go mod tidy
//	go run . publish amqp://guest:guest@127.0.0.1:5672/ > published_by_go.jsonl
//	go run . read amqp://guest:guest@127.0.0.1:5672/ < headers.jsonl > read_by_go.jsonl
//
// `publish` has the library publish messages by its presets, and tells the frames that it sent, as somebody between it and
// the server has seen them. `read` publishes header frames and bodies as they are given, each as {"header": base64,
// "payload": base64}, and tells what the library's subscriber made of them. A test that no longer sends what the library
// has read prints what it sends.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
)

type line struct {
	// The frame of the method, on its way to the server, without the number of its channel.
	Publish []byte `json:"publish,omitempty"`
	// The frame of the header, the same way.
	Header   []byte            `json:"header"`
	UUID     string            `json:"uuid"`
	Payload  []byte            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

func main() {
	if len(os.Args) != 3 {
		panic("say `publish` or `read`, and a URL")
	}
	switch os.Args[1] {
	case "publish":
		publish(os.Args[2])
	case "read":
		read(os.Args[2])
	default:
		panic("say `publish` or `read`")
	}
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

func publish(server string) {
	parsed, err := url.Parse(server)
	check(err)
	between := &between{}
	proxied := *parsed
	proxied.Host = between.listen(parsed.Host)
	for _, config := range []amqp.Config{
		amqp.NewDurablePubSubConfig(proxied.String(), nil),
		amqp.NewDurableQueueConfig(proxied.String()),
	} {
		config.Publish.ConfirmDelivery = true
		publisher, err := amqp.NewPublisher(config, watermill.NopLogger{})
		check(err)
		for _, m := range messages() {
			between.clear()
			check(publisher.Publish("orders.placed", m))
			method, header := between.seen()
			write(line{Publish: method, Header: header, UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
		}
		check(publisher.Close())
	}
}

// Passes on what a client sends, and keeps the frames of what it publishes.
type between struct {
	lock           sync.Mutex
	method, header []byte
}

func (b *between) listen(server string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		for {
			client, err := listener.Accept()
			check(err)
			upstream, err := net.Dial("tcp", server)
			check(err)
			go func() { _, _ = io.Copy(client, upstream) }()
			go b.pass(client, upstream)
		}
	}()
	return listener.Addr().String()
}

func (b *between) pass(client io.Reader, upstream io.Writer) {
	greeting := make([]byte, 8)
	if _, err := io.ReadFull(client, greeting); err != nil {
		return
	}
	_, _ = upstream.Write(greeting)
	for {
		frame, err := readFrame(client)
		if err != nil {
			return
		}
		body := append([]byte{frame[0], 0, 0}, frame[3:]...)
		b.lock.Lock()
		// basic.publish is method 40 of class 60.
		if frame[0] == 1 && bytes.Equal(frame[7:11], []byte{0, 60, 0, 40}) {
			b.method = body
		} else if frame[0] == 2 {
			b.header = body
		}
		b.lock.Unlock()
		_, _ = upstream.Write(frame)
	}
}

func (b *between) clear() {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.method, b.header = nil, nil
}

func (b *between) seen() ([]byte, []byte) {
	b.lock.Lock()
	defer b.lock.Unlock()
	if b.method == nil || b.header == nil {
		panic("nothing was published")
	}
	return b.method, b.header
}

func readFrame(from io.Reader) ([]byte, error) {
	head := make([]byte, 7)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
	if _, err := io.ReadFull(from, rest); err != nil {
		return nil, err
	}
	return append(head, rest...), nil
}

func read(server string) {
	config := amqp.NewDurableQueueConfig(server)
	subscriber, err := amqp.NewSubscriber(config, watermill.NopLogger{})
	check(err)
	topic := watermill.NewUUID()
	received, err := subscriber.Subscribe(context.Background(), topic)
	check(err)
	connection := byHand(server)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var sent line
		check(json.Unmarshal(lines.Bytes(), &sent))
		publish := append([]byte{0, 60, 0, 40, 0, 0, 0, byte(len(topic))}, topic...)
		connection.send(frame(1, 1, append(publish, 0)))
		header := append([]byte{}, sent.Header...)
		header[2] = 1
		connection.send(header)
		if len(sent.Payload) > 0 {
			connection.send(frame(3, 1, sent.Payload))
		}
		m := <-received
		m.Ack()
		write(line{Header: sent.Header, UUID: m.UUID, Payload: m.Payload, Metadata: m.Metadata})
	}
	check(lines.Err())
	check(subscriber.Close())
}

// A connection whose frames are written by hand.
type manual struct{ net.Conn }

func byHand(server string) manual {
	parsed, err := url.Parse(server)
	check(err)
	password, _ := parsed.User.Password()
	conn, err := net.Dial("tcp", parsed.Host)
	check(err)
	c := manual{conn}
	c.send([]byte("AMQP\x00\x00\x09\x01"))
	c.expect(10, 10)
	login := "\x00" + parsed.User.Username() + "\x00" + password
	startOk := append([]byte{0, 10, 0, 11, 0, 0, 0, 0, 5}, "PLAIN"...)
	startOk = binary.BigEndian.AppendUint32(startOk, uint32(len(login)))
	startOk = append(append(startOk, login...), append([]byte{5}, "en_US"...)...)
	c.send(frame(1, 0, startOk))
	c.expect(10, 30)
	// Frames of 128 KiB and no heartbeats.
	c.send(frame(1, 0, []byte{0, 10, 0, 31, 0, 8, 0, 2, 0, 0, 0, 0}))
	c.send(frame(1, 0, append([]byte{0, 10, 0, 40, 1}, "/\x00\x00"...)))
	c.expect(10, 41)
	c.send(frame(1, 1, []byte{0, 20, 0, 10, 0}))
	c.expect(20, 11)
	return c
}

func (c manual) send(bytes []byte) {
	_, err := c.Write(bytes)
	check(err)
}

func (c manual) expect(class, method byte) {
	answer, err := readFrame(c)
	check(err)
	if answer[8] != class || answer[10] != method {
		panic(fmt.Sprintf("the server has answered %v", answer))
	}
}

func frame(kind byte, channel byte, payload []byte) []byte {
	framed := binary.BigEndian.AppendUint32([]byte{kind, 0, channel}, uint32(len(payload)))
	return append(append(framed, payload...), 0xce)
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
