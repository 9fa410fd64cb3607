// Command argon2id compares a password with a hash again and again, for a given time, and prints the median duration in seconds.
//
//	argon2id PASSWORD HASH 3s
package main

import (
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"github.com/alexedwards/argon2id"
)

func main() {
	password, hash := os.Args[1], os.Args[2]
	length, err := time.ParseDuration(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	var took []time.Duration
	for end := time.Now().Add(length); time.Now().Before(end); {
		start := time.Now()
		if match, err := argon2id.ComparePasswordAndHash(password, hash); err != nil || !match {
			log.Fatal("no match: ", err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	fmt.Println(took[len(took)/2].Seconds())
}
