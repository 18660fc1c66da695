package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// secretFile returns what a file named by @name has to say: up to maxFile octets, less
// one line end behind them.
func (o *Options) secretFile(ctx context.Context, name string) (string, error) {
	var text []byte
	var err error
	if o.ReadFile != nil {
		text, err = o.ReadFile(name)
	} else {
		text, err = readFile(ctx, name)
	}
	if err != nil {
		return "", err
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("%s: more than %d octets", name, maxFile)
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return "", fmt.Errorf("%s: a NUL octet", name)
	}
	return string(bytes.TrimSuffix(text, []byte{'\n'})), nil
}

// readFile reads a file, up to one octet more than it may have. It waits for a pipe's
// writer, as long as ctx lasts.
func readFile(ctx context.Context, name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeNamedPipe == 0 {
		return readMost(name, func(*os.File) {})
	}
	opened := make(chan *os.File, 1)
	done := make(chan struct{})
	var text []byte
	go func() {
		defer close(done)
		text, err = readMost(name, func(f *os.File) { opened <- f })
	}()
	select {
	case <-done:
		return text, err
	case <-ctx.Done():
	}
	// Opening it waits for a writer: be one. If that is done, closing ends the Read.
	if w, werr := os.OpenFile(name, os.O_RDWR, 0); werr == nil {
		defer w.Close()
	}
	select {
	case f := <-opened:
		f.Close()
	case <-done:
	}
	<-done
	return nil, context.Cause(ctx)
}

func readMost(name string, opened func(*os.File)) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opened(f)
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if errors.Is(err, os.ErrClosed) {
		err = io.ErrUnexpectedEOF
	}
	return text, err
}
