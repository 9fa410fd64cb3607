// Command web is the Knative function that serves the playground: a page that shows what Warble does.
package main

import "warble/shared/function"

func main() {
	f := function.New()
	f.Serve(New())
}
