package main

import "net/http"

// confirm is where the links of mail lead. The token is in the fragment, which the server never sees.
func confirm(w http.ResponseWriter, r *http.Request) { serve(w, r, "confirm.html") }
