package main

import "net/http"

// confirm serves the page to which the links in mail lead. The token is in the fragment, which the server never sees.
func confirm(w http.ResponseWriter, r *http.Request) { serve(w, r, "confirm.html") }
