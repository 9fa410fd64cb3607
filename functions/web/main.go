// Command web is the Knative function that serves the playground: a page for people who want to see what Warble does.
package main

import "warble/shared/function"

func main() {
	f := function.New()
	f.Serve(New())
}
