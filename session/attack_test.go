package session

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// Lengths of the messages of an attachment with their headers, by who sends them.
const (
	fromClient = headerLen + resumeLen + headerLen + answerLen
	fromServer = headerLen + challengeLen + headerLen + acceptLen
)

// Every octet of an attachment changed on the way, one by one: it fails. Until the
// client's proof was right the Session is undisturbed; after it, it goes on with the next
// connection.
func TestAltered(t *testing.T) {
	for d, length := range []int{fromClient, fromServer} {
		t.Run([]string{"client's", "server's"}[d], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, near, far := newWay(1<<16, -1, -1)
				client, server := begin(t, near, far, tenMinutes)
				defer server.Close()
				defer client.Close()
				for octet := 1; octet <= length; octet++ {
					streams := server.Stats().Streams
					w, near, far := newWay(1<<16, -1, -1)
					w.dirs[d].flip = octet
					here, there := again(t.Context(), client, server, near, far)
					if here == nil {
						t.Errorf("octet %d changed, and the client goes on", octet)
					}
					if d == 0 || octet <= headerLen+challengeLen {
						if there == nil || !server.Stats().Attached || server.Stats().Streams != streams {
							t.Errorf("octet %d changed, and the server is disturbed: %v, %+v", octet, there, server.Stats())
						}
					} else {
						attached(t, client, server)
					}
					flows(t, client, server)
				}
			})
		})
	}
}

// Every truncation of what a client says.
func TestTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		defer server.Close()
		defer client.Close()
		for octets := 1; octets < fromClient; octets++ {
			_, near, far := newWay(1<<16, octets, -1)
			if here, there := again(t.Context(), client, server, near, far); here == nil || there == nil {
				t.Errorf("after %d octets: %v; %v", octets, here, there)
			}
			if st := server.Stats(); !st.Attached || st.Streams != 1 {
				t.Fatalf("disturbed: %+v", st)
			}
		}
		flows(t, client, server)
	})
}

// undisturbed wants an attempt at server to be refused, and what there was to go on.
func undisturbed(t *testing.T, client, server *Session, want error, attempt func(stream carrier.Stream)) {
	t.Helper()
	before := server.Stats()
	_, near, far := newWay(1<<16, -1, -1)
	done := make(chan struct{})
	go func() { defer close(done); attempt(near) }()
	c, err := Greet(t.Context(), far)
	if err == nil {
		err = server.Resume(t.Context(), c)
	}
	<-done
	near.Close()
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	if after := server.Stats(); after.Streams != before.Streams || !after.Attached || !after.Since.Equal(before.Since) {
		t.Errorf("disturbed: %+v, and before %+v", after, before)
	}
	flows(t, client, server)
}

func TestThieves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		defer server.Close()
		defer client.Close()
		_, near, far = newWay(1<<16, -1, -1)
		other, others := begin(t, near, far, tenMinutes)
		defer others.Close()
		defer other.Close()

		// thief is a client with the given secret; what it read is octets of no account.
		thief := func(known secret) func(carrier.Stream) {
			return func(stream carrier.Stream) {
				s := newSession(client.id, known, time.Minute, Options{})
				if err := s.Attach(t.Context(), stream); !errors.Is(err, ErrForged) {
					t.Errorf("the thief is told %v", err)
				}
			}
		}
		first := client.secret
		for range 3 {
			w, near, far := newWay(1<<16, -1, -1)
			for i := range w.dirs {
				w.dirs[i].keeps = true
			}
			used := client.secret
			if here, there := again(t.Context(), client, server, near, far); here != nil || there != nil {
				t.Fatal(here, there)
			}
			flows(t, client, server)
			said, answered := w.dirs[0].seen[:fromClient], w.dirs[1].seen[:fromServer]

			// Replayed to the server, whole or from the proof on.
			undisturbed(t, client, server, ErrForged, func(stream carrier.Stream) {
				stream.Write(said)
				io.Copy(io.Discard, stream)
			})
			// Replayed to the client.
			_, near, far = newWay(1<<16, -1, -1)
			far.Write(answered)
			if err := client.Attach(t.Context(), near); !errors.Is(err, ErrForged) {
				t.Errorf("replayed to the client: %v", err)
			}
			flows(t, client, server)
			undisturbed(t, client, server, ErrForged, thief(used))
			undisturbed(t, client, server, ErrForged, thief(first))
			undisturbed(t, client, server, ErrForged, thief(other.secret))
			undisturbed(t, client, server, ErrForged, thief(secret{}))
		}

		// Another Session's peer, in its own name and with its own secret.
		undisturbed(t, client, server, ErrUnknown, func(stream carrier.Stream) {
			if err := other.Attach(t.Context(), stream); !errors.Is(err, ErrUnknown) {
				t.Errorf("%v", err)
			}
		})
		flows(t, other, others)
	})
}

// The client's own proof sent back to it, in every length and with its counts, proves
// nothing: nor does the role of the server let a caller in.
func TestReflected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		defer server.Close()
		defer client.Close()

		_, near, far = newWay(1<<16, -1, -1)
		done := make(chan error, 1)
		go func() { done <- client.Attach(t.Context(), near) }()
		resume, err := readMessage(far)
		if err != nil {
			t.Fatal(err)
		}
		far.Write(newMessage(frameChallenge, []byte{Version}, resume.payload()[resumeLen-nonceLen:]))
		proof, err := readMessage(far)
		if err != nil {
			t.Fatal(err)
		}
		far.Write(newMessage(frameAccept, proof.payload()[:8], number(0), proof.payload()[8:]))
		if err := <-done; !errors.Is(err, ErrForged) {
			t.Errorf("its own proof: %v", err)
		}
		flows(t, client, server)

		undisturbed(t, client, server, ErrForged, func(stream carrier.Stream) {
			resume := newMessage(frameResume, versions, client.id[:], make([]byte, nonceLen))
			stream.Write(resume)
			challenge, err := readMessage(stream)
			if err != nil {
				t.Error(err)
			}
			stream.Write(newMessage(frameProof, number(0), client.secret.proof(labelServer, resume, challenge, number(0))))
		})
	})
}

// The answer to a right proof is lost again and again: the one secret is good until the
// server has seen the next used.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		defer server.Close()
		defer client.Close()
		for range 3 {
			for range 3 {
				_, near, far := newWay(1<<16, -1, headerLen+challengeLen+10)
				if here, _ := again(t.Context(), client, server, near, far); here == nil {
					t.Fatal("no answer, and attached")
				}
			}
			used := client.secret
			attached(t, client, server)
			flows(t, client, server)
			if server.hasFormer {
				t.Error("the secret before is good still")
			}
			if client.secret == used || client.secret != server.secret {
				t.Error("the secret is used twice")
			}
		}
	})
}

// A server that says nothing gets no more than a greeting, and is not waited for for
// long; the Session goes on meanwhile.
func TestSilentAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		defer server.Close()
		defer client.Close()
		_, near, far = newWay(1<<16, -1, -1)
		start := time.Now()
		done := make(chan error, 1)
		go func() { done <- client.Attach(t.Context(), near) }()
		time.Sleep(time.Second)
		flows(t, client, server)
		if err := <-done; err == nil || time.Since(start) != greetTime {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		far.Close()
	})
}

// A peer that has proved what it is and then breaks the rules loses its connection.
func TestLies(t *testing.T) {
	for name, says := range map[string][]byte{
		"acknowledges what was not sent": appendNumber(nil, frameAck, 1),
		"of no type":                     appendHeader(nil, 0x42, 0),
		"empty data":                     appendHeader(nil, frameData, 0),
		"long ACK":                       append(appendHeader(nil, frameAck, 9), make([]byte, 9)...),
		"greets again":                   newMessage(frameNew, versions, make([]byte, 4+keyLen)),
	} {
		synctest.Test(t, func(t *testing.T) {
			lost := make(chan loss, 1)
			_, near, far := newWay(1<<16, -1, -1)
			client, server := beginWith(t, near, far, losing(tenMinutes, lost), tenMinutes)
			done := reads(client)
			server.now.stream.Write(says)
			if l := <-lost; l.cause == nil {
				t.Errorf("%s", name)
			}
			if _, err := server.now.stream.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: the connection is open: %v", name, err)
			}
			client.Close()
			server.Close()
			<-done
		})
	}
	// ACKs that go back.
	var c cutter
	if _, _, err := c.cut(append(appendNumber(nil, frameAck, 8), appendNumber(nil, frameAck, 7)...)); err == nil {
		t.Error("an ACK went back")
	}
	// An end before the end.
	synctest.Test(t, func(t *testing.T) {
		_, near, far := newWay(1<<16, -1, -1)
		client, server := begin(t, near, far, tenMinutes)
		server.now.stream.Write(appendNumber(nil, frameEnd, 5))
		if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("5 octets are missing: %v", err)
		}
		client.Close()
		server.Close()
	})
}
