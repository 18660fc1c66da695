package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// Upload is the answer to POST /upload, as JSON.
type Upload struct {
	Length int64  `json:"length"` // octets of the body
	SHA256 string `json:"sha256"` // of the body, in hexadecimal
}

// maxBytes bounds /bytes/N: 16 GiB, some minutes at full speed.
const maxBytes = 16 << 30

// webHandler answers on the web host:
//
//	GET  /                 "bodkin lab\n"
//	GET  /bytes/N?seed=S   N octets, the same for the same S
//	GET  /sha/N?seed=S     their SHA-256, in hexadecimal
//	POST /upload           an Upload
//	GET  /address          the client's address as the server sees it
func webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "bodkin lab\n")
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, body, err := wanted(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		w.Header().Set("Content-Type", "application/octet-stream")
		io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, 256<<10))
	})
	mux.HandleFunc("GET /sha/{n}", func(w http.ResponseWriter, r *http.Request) {
		_, body, err := wanted(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h := sha256.New()
		io.Copy(h, body)
		fmt.Fprintln(w, hex.EncodeToString(h.Sum(nil)))
	})
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(Upload{n, hex.EncodeToString(h.Sum(nil))})
	})
	mux.HandleFunc("GET /address", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.RemoteAddr)
	})
	return mux
}

// wanted reads the length and the seed of a request.
func wanted(r *http.Request) (n int64, body io.Reader, err error) {
	n, err = strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		return 0, nil, fmt.Errorf("length: not a number from 0 to %d", int64(maxBytes))
	}
	var seed uint64
	if s := r.FormValue("seed"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			return 0, nil, fmt.Errorf("seed: not a number below 2^64")
		}
	}
	return n, Bytes(n, seed), nil
}

// Bytes is what GET /bytes/N?seed=S answers, for a test to compare with.
func Bytes(n int64, seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), n)
}
