// Command office is the mail server of a test cluster: it takes all mail, without TLS, at port 2525, and writes each letter to its
// log as one line of JSON.
package main

import (
	"encoding/json"
	"log"
	"net"
	"os"

	"warble/shared/apitest"
)

func main() {
	listener, err := net.Listen("tcp", ":2525")
	if err != nil {
		log.Fatal(err)
	}
	letters := json.NewEncoder(os.Stdout)
	office := &apitest.PostOffice{Taken: func(l apitest.Letter) {
		if err := letters.Encode(l); err != nil {
			log.Print(err)
		}
	}}
	log.Fatal(office.Serve(listener))
}
