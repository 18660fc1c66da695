package front

import (
	"io"
	"net/http"
)

// page is what there is to see.
const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>bodkin</title>
</head>
<body>
<h1>bodkin</h1>
<p>This is a server for programs, not for browsers. If you have been given access to it, your key is what opens it.</p>
</body>
</html>
`

// Page returns the Handler of a small page on "/", for whoever comes with a browser.
// All else is not there. It says nothing of the server beyond its name, and repeats
// nothing of the request.
func Page() http.Handler { return Site("", nil) }

// Site is Page with a WebSocket, or whatever handler it is, at one path: that very path,
// in that spelling.
func Site(path string, at http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at != nil && r.URL.Path == path {
			at.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.URL.Path != "/":
			say(w, http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			say(w, http.StatusMethodNotAllowed)
		default:
			h.Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, page)
		}
	})
}

// say answers with a status and its own name.
func say(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, http.StatusText(status)+"\n")
}
