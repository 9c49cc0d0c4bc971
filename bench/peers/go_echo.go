// SPDX-License-Identifier: Apache-2.0

// An echo server in Go. Its net package sets TCP_NODELAY by itself.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
)

func echo(connection net.Conn) {
	defer connection.Close()
	bytes := make([]byte, 16*1024)
	for {
		count, err := connection.Read(bytes)
		if err != nil {
			return
		}
		if _, err = connection.Write(bytes[:count]); err != nil {
			return
		}
	}
}

func main() {
	port := flag.Int("port", 0, "0 picks a free one")
	flag.Parse()
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	for {
		if connection, err := listener.Accept(); err == nil {
			go echo(connection)
		}
	}
}
