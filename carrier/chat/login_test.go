package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A scene is a far side: what it says, and in angle brackets what it then must hear.
// It ends with "<closes>", or else waits.
//
//	gw login: <me\r>me\r\nPassword: <pw\r>\r\n~ $
type scene string

// play plays a scene on a Stream, and returns what went wrong.
func (s scene) play(st io.ReadWriteCloser) error {
	defer st.Close()
	text := string(s)
	for text != "" {
		says, after, heard := strings.Cut(text, "<")
		if _, err := io.WriteString(st, says); err != nil {
			return fmt.Errorf("nobody listens to %q: %w", says, err)
		}
		if !heard {
			break
		}
		var want string
		want, text, _ = strings.Cut(after, ">")
		if want == "closes" {
			return nil
		}
		if want == "pauses" {
			time.Sleep(stays - time.Millisecond)
			continue
		}
		if want == "marker" { // of becoming root
			var line []byte
			for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\r'; line = append(line, b[0]) {
				if _, err := st.Read(b); err != nil {
					return err
				}
			}
			echo, ok := strings.CutPrefix(string(line), "echo bodkin-''")
			nonce, command, cut := strings.Cut(echo, "; ")
			if !ok || !cut {
				return fmt.Errorf("heard %q", line)
			}
			text = strings.NewReplacer("{line}", strings.TrimSuffix(string(line), "\r")+"\r\n", "{marker}", "bodkin-"+nonce+"\r\n", "{command}", strings.TrimSpace(command)).Replace(text)
			continue
		}
		got := make([]byte, len(want))
		if n, err := io.ReadFull(st, got); err != nil || string(got) != want {
			return fmt.Errorf("heard %q, %v; want %q", got[:n], err, want)
		}
	}
	// Nothing more may be typed.
	if more, _ := io.ReadAll(st); len(more) > 0 {
		return fmt.Errorf("and then heard %q", more)
	}
	return nil
}

// knows answers the questions of a dialogue, and remembers them.
type knows struct {
	asked []string
}

func (k *knows) secret(_ context.Context, question string) (string, error) {
	k.asked = append(k.asked, question)
	for _, known := range [][2]string{
		{"otp-md5 95", "JADE ROSY"}, {"s/key 662", "BOND"}, {"SNK", "8812"}, {"erification", "123456"},
		{"assword", "pw"}, {"asswort", "pw"}, {"ontrase", "pw"}, {"ароль", "pw\n"},
	} {
		if strings.Contains(question, known[0]) {
			return known[1], nil
		}
	}
	return "", errors.New("no idea")
}

// logins are hosts, as they speak, and how Login ends there.
var logins = []struct {
	name  string
	host  scene
	o     LoginOptions
	asked string // questions, with a stroke between
	fails string // a part of the error; empty for success
}{
	{"Debian, login(1)", "Debian GNU/Linux 12\r\n\r\ngw login: <me\r>me\r\nPassword: <pw\r>\r\nLinux gw 6.1\r\n\r\nLast login: Mon Nov 22 from 10.0.0.1 on pts/0\r\n\x1b[?2004h\x1b]0;me@gw: ~\x07\x1b[01;32mme@gw\x1b[00m:\x1b[01;34m~\x1b[00m$ ", LoginOptions{User: "me"}, "Password:", ""},
	{"busybox", "\r\nhost login: <root\r>root\r\nPassword: <pw\r>\r\n~ # \x1b[6n", LoginOptions{User: "root"}, "Password:", ""},
	{"FreeBSD", "\r\nFreeBSD/amd64 (gw) (pts/0)\r\n\r\nlogin: <me\r>me\r\nPassword:<pw\r>\r\nFreeBSD 14\r\n\r\n% ", LoginOptions{User: "me"}, "Password:", ""},
	{"a password only", "Password for me: <pw\r>\r\n$ ", LoginOptions{User: "me"}, "Password for me:", ""},
	{"a router", "User Access Verification\r\n\r\nUsername: <me\r>me\r\nPassword: <pw\r>\r\nrouter> ", LoginOptions{User: "me"}, "Password:", ""},
	{"without echo or line ends", "login: <me\r>Password: <pw\r>gw$ ", LoginOptions{User: "me"}, "Password:", ""},
	{"no password", "login: <me\r>me\r\n$ ", LoginOptions{User: "me"}, "", ""},
	{"no login at all", "\r\n/ # ", LoginOptions{}, "", ""},
	{"a shell's look before the login", "\r\n* All use is # logged > and $ paid *\r\nprices in $ \r\ngw login: <me\r>me\r\nPassword: <pw\r>\r\n$ ", LoginOptions{User: "me"}, "Password:", ""},
	{"OPIE", "login: <me\r>me\r\notp-md5 95 pi1234 ext\r\nResponse: <JADE ROSY\r>\r\n$ ", LoginOptions{User: "me"}, "otp-md5 95 pi1234 ext Response:", ""},
	{"OTP in the prompt", "login: <me\r>me\r\nPassword [otp-md5 95 pi1234 ext]: <JADE ROSY\r>\r\n$ ", LoginOptions{User: "me"}, "Password [otp-md5 95 pi1234 ext]:", ""},
	{"S/Key", "login: <me\r>me\r\ns/key 662 wa310501\r\nPassword:<BOND\r>\r\n$ ", LoginOptions{User: "me"}, "s/key 662 wa310501 Password:", ""},
	{"a second factor", "login: <me\r>me\r\nPassword: <pw\r>\r\nVerification code: <123456\r>\r\n$ ", LoginOptions{User: "me"}, "Password:|Verification code:", ""},
	{"German", "gw login: <me\r>me\r\nPasswort: <pw\r>\r\n$ ", LoginOptions{User: "me"}, "Passwort:", ""},
	{"Spanish in Latin-1", "login: <me\r>me\r\nContrase\xf1a: <pw\r>\r\n$ ", LoginOptions{User: "me"}, "Contrase?a:", ""},
	{"Russian", "login: <me\r>me\r\nПароль: <pw\r>\r\n$ ", LoginOptions{User: "me"}, "Пароль:", ""},
	{"zsh's mark and fish's end", "login: <me\r>me\r\nPassword: <pw\r>\r\n\x1b[1m\x1b[7m%\x1b[27m\x1b[1m\x1b[0m          \r \r\r\x1b[0m\x1b[27m\x1b[24m\x1b[Jgw% \x1b[K\x1b[?2004h", LoginOptions{User: "me"}, "Password:", ""},

	{"a message that stops", "login: <me\r>me\r\nPassword: <pw\r>\r\nPassword:<pauses> $\r\nlogin:<pauses> ask for one\r\n$ ", LoginOptions{User: "me"}, "Password:", ""},
	{"a wrong password", "gw login: <me\r>me\r\nPassword: <pw\r>\r\n\r\nLogin incorrect\r\ngw login: ", LoginOptions{User: "me"}, "Password:", `login: the host said "Login incorrect"`},
	{"busybox says", "login: <me\r>me\r\nPassword: <pw\r>\r\nLogin incorrect\r\nlogin: ", LoginOptions{User: "me"}, "Password:", `said "Login incorrect"`},
	{"asked again, without a word", "login: <me\r>me\r\nPassword: <pw\r>\r\nlogin: ", LoginOptions{User: "me"}, "Password:", `said "login:"`},
	{"a password again", "Username: <me\r>me\r\nPassword: <pw\r>\r\nBad passwords\r\nPassword: ", LoginOptions{User: "me"}, "Password:", `said "Bad passwords"`},
	{"another password, in its words", "Username: <me\r>me\r\nPassword: <pw\r>\r\nNo.\r\nPassword: ", LoginOptions{User: "me"}, "Password:", `said "No."`},
	{"Permission denied", "login: <me\r>me\r\nPassword: <pw\r>\r\nPermission denied, please try again.\r\n<closes>", LoginOptions{User: "me"}, "Password:", `said "Permission denied`},
	{"its last word", "login: <me\r>me\r\nPassword: <pw\r>\r\nAccess denied<closes>", LoginOptions{User: "me"}, "Password:", `said "Access denied"`},
	{"a name after a password", "Password: <pw\r>\r\ngw login: ", LoginOptions{User: "me"}, "Password:", `said "gw login:"`},
	{"it expired", "login: <me\r>me\r\nPassword: <pw\r>\r\nYou are required to change your password immediately (root enforced)\r\nChanging password for me.\r\nCurrent password: ", LoginOptions{User: "me"}, "Password:", "wants a new password"},
	{"no shell for you", "login: <me\r>me\r\nPassword: <pw\r>\r\nThis account is currently not available.\r\n<closes>", LoginOptions{User: "me"}, "Password:", "currently not available"},
	{"nobody given", "gw login: ", LoginOptions{}, "", `the host asks "gw login:", and no user is given`},
	{"it closes", "Welcome\r\n<closes>", LoginOptions{User: "me"}, "", `login: waiting for a login prompt: the host closed the connection; 9 octets came, the last words "Welcome"`},
	{"it closes later", "login: <me\r>me\r\n<closes>", LoginOptions{User: "me"}, "", "waiting for a shell's prompt: the host closed"},
	{"it is silent", "Welcome\r\n", LoginOptions{User: "me"}, "", "the host is silent for 1m0s"},
	{"a name that cannot be", "", LoginOptions{User: "me\rrm"}, "", `"me rm": it cannot be typed`},
	{"a name that is an option", "", LoginOptions{User: "-froot"}, "", "cannot be typed"},
	{"no idea", "login: <me\r>me\r\nPIN: ", LoginOptions{User: "me"}, "PIN:", `asking for "PIN:": no idea`},

	{"su", "login: <me\r>me\r\nPassword: <pw\r>\r\nme$ <marker>me$ {line}{marker}Password: <pw\r>\r\n# ", LoginOptions{User: "me", Become: "su"}, "Password:|su: Password:", ""},
	{"su typed too early", "login: <me\r>me\r\nPassword: <pw\r>\r\n# <marker># a message\r\n#\r\n{line}me$ {line}{marker}Password: <pw\r>\r\n# ", LoginOptions{User: "me", Become: "su"}, "Password:|su: Password:", ""},
	{"sudo", "/home $ <marker>{line}{marker}[sudo] password for me: <pw\r>\r\nroot@gw:~# ", LoginOptions{Become: "sudo"}, "sudo: [sudo] password for me:", ""},
	{"sudo without a password", "/home $ <marker>{line}{marker}root@gw:~# ", LoginOptions{Become: "sudo"}, "", ""},
	{"su says no", "me$ <marker>{line}{marker}Password: <pw\r>\r\nsu: Authentication failure\r\n<closes>", LoginOptions{Become: "su"}, "su: Password:", `said "su: Authentication failure"`},
	{"sudo says no", "me$ <marker>{line}{marker}[sudo] password for me: <pw\r>\r\nSorry, try again.\r\n[sudo] password for me: ", LoginOptions{Become: "sudo"}, "sudo: [sudo] password for me:", `said "Sorry, try again."`},
	{"sudo knows not me", "me$ <marker>{line}{marker}[sudo] password for me: <pw\r>\r\nme is not in the sudoers file.\r\n<closes>", LoginOptions{Become: "sudo"}, "sudo: [sudo] password for me:", `not in the sudoers`},
	{"no sudo", "me$ <marker>{line}{marker}-bash: exec: sudo: not found\r\nme$ ", LoginOptions{Become: "sudo"}, "", `sudo: not found`},
	{"no such way", "", LoginOptions{Become: "doas"}, "", "there are su and sudo"},
}

func TestLogin(t *testing.T) {
	for _, c := range logins {
		for _, piece := range []int{1 << 16, 1, 2, 7} {
			synctest.Test(t, func(t *testing.T) {
				near, far := pipe(piece)
				var played error
				var playing sync.WaitGroup
				playing.Go(func() { played = c.host.play(far) })
				var k knows
				o := c.o
				o.Secret = k.secret
				var lines []string
				o.Banner = func(line string) { lines = append(lines, line) }
				o.Log = o.Banner
				st, err := Login(t.Context(), carrier.Stream{ReadWriteCloser: near}, o)
				if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
					t.Errorf("%s, %d at once: %v, want %q", c.name, piece, err, c.fails)
				}
				if asked := strings.Join(k.asked, "|"); asked != c.asked {
					t.Errorf("%s, %d at once: was asked %q, want %q", c.name, piece, asked, c.asked)
				}
				if err == nil {
					st.Close()
				}
				playing.Wait()
				if played != nil && err == nil {
					t.Errorf("%s, %d at once: %v", c.name, piece, played)
				}
				if all := strings.Join(lines, "\n"); strings.Contains(all, "pw\n") || strings.ContainsAny(all, "\x1b\r\x07") {
					t.Errorf("%s: the lines have what they must not: %q", c.name, lines)
				}
			})
		}
	}
}

// TestBanner: what the host says is shown, but no echo of ours.
func TestBanner(t *testing.T) {
	host := scene("Welcome to some home\r\nlogin: <me\r>me\r\nPassword: <pw\r>pw\r\nyou typed pw!\r\nme too\r\n$ <marker>$ {line}{marker}Password: <pw\r>\r\nhello\r\n# ")
	near, far := pipe(3)
	var playing sync.WaitGroup
	playing.Go(func() { host.play(far) })
	var k knows
	var lines []string
	st, err := Login(t.Context(), carrier.Stream{ReadWriteCloser: near}, LoginOptions{User: "me", Become: "su", Secret: k.secret, Banner: func(line string) { lines = append(lines, line) }})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines, "|"); got != "Welcome to some home|you typed ??????!|me too|hello" {
		t.Errorf("shown %q", got)
	}
	st.Close()
	playing.Wait()
}

// TestLoginErrors: which type an error has, for that decides what is done next.
func TestLoginErrors(t *testing.T) {
	var refused *carrier.RefusedError
	var hungUp *carrier.HangUpError
	var silent *carrier.SilenceError
	for host, want := range map[scene]any{
		"login: <me\r>\r\nLogin incorrect\r\n": &refused,
		"login: <me\r>\r\n<closes>":            &hungUp,
		"login: <me\r>\r\n":                    &silent,
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := pipe(3)
			var playing sync.WaitGroup
			playing.Go(func() { host.play(far) })
			_, err := Login(t.Context(), carrier.Stream{ReadWriteCloser: near}, LoginOptions{User: "me"})
			if !errors.As(err, want) {
				t.Errorf("%s: %T %v", host, err, err)
			}
			playing.Wait()
		})
	}
}

// TestSlowHost: 300 bit/s, and two seconds of thought now and then, are no silence.
func TestSlowHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe(1 << 10)
		var playing sync.WaitGroup
		playing.Go(func() {
			defer far.Close()
			slow := func(text string) {
				for i := range len(text) {
					pause := time.Second / 30
					if i%20 == 19 {
						pause = 2 * time.Second
					}
					time.Sleep(pause)
					if _, err := far.Write([]byte{text[i]}); err != nil {
						t.Error(err)
						return
					}
				}
			}
			b := make([]byte, 3)
			slow(strings.Repeat("All is logged, and # > $ are signs.\r\n", 400) + "gw login: ")
			io.ReadFull(far, b)
			slow("me\r\nPassword: ")
			io.ReadFull(far, b)
			slow("\r\n\r\nme@gw:~$ ")
		})
		var k knows
		st, err := Login(t.Context(), carrier.Stream{ReadWriteCloser: near}, LoginOptions{User: "me", Secret: k.secret, Timeout: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		playing.Wait()
		st.Close()
	})
}

// TestEndless: a host that never stops talking is not listened to for ever.
func TestEndless(t *testing.T) {
	p := newPeer(strings.Repeat("more and more\r\n", 400_000), 1<<10)
	_, err := Login(t.Context(), p.stream(), LoginOptions{User: "me"})
	var refused *carrier.RefusedError
	if !errors.As(err, &refused) || len(p.says) < 100_000 {
		t.Errorf("%v, %d octets left", err, len(p.says))
	}
}

// TestPrompts is what an unfinished line asks for.
func TestPrompts(t *testing.T) {
	for want, lines := range map[prompt][]string{
		namePrompt:  {"login:", "login: ", "gw.example.org login: ", "Username:", "User name: ", "Please login: ", "Enter your username: ", "USERID: "},
		secretAsked: {"Password:", "password: ", "me's password: ", "[sudo] password for me: ", "[sudo] Passwort für me: ", "Mot de passe : ", "Hasło: ", "密码：", "パスワード:", "Enter passphrase for key '/home/me/.ssh/id': ", "(me@gw) Password:"},
		codeAsked:   {"Verification code: ", "Response:", "Enter PASSCODE: ", "One-time password (OATH) for `me': ", "SNK Challenge \"28311\": ", "Enter response code: ", "PIN:"},
		newAsked:    {"New password: ", "(current) UNIX password: ", "Retype new password: ", "Enter new UNIX password: "},
		shellPrompt: {"$ ", "# ", "me@gw:~$ ", "% ", "> ", "[me@gw ~]# ", "~ ❯ "},
		noPrompt:    {"", "Last login:", "Last login: ", "Last failed login: ", "Welcome", "password", "$", "50% of", "The password", "login", "http://login:", strings.Repeat("x", 300) + "Password: "},
	} {
		for _, line := range lines {
			if got := promptOf(line); got != want {
				t.Errorf("%q: %v, want %v", line, got, want)
			}
		}
	}
	for _, line := range []string{"Login incorrect", "login: Login incorrect", "% Authentication failed", "su: Authentication failure", "su: incorrect password", "Permission denied", "Permission denied (publickey,password).", "Sorry", "su: Sorry", "Access denied.", "Invalid username or password.", "Maximum number of tries exceeded (5)", "sudo: 3 incorrect password attempts", "Your account has been locked.", "Login failed; try again"} {
		if !refusal.MatchString(line) {
			t.Errorf("%q is no refusal", line)
		}
	}
	for _, line := range []string{"Permission denied to those without a permit", "Unauthorized access denied by law", "-bash: /etc/x: Permission denied", "Last failed login: Mon", "Welcome", "3 failures since last login", "foo: not found", "sorry for the delay"} {
		if refusal.MatchString(line) {
			t.Errorf("%q is a refusal", line)
		}
	}
}

// A host prints its question, and only then turns echo off and forgets what was typed:
// the answer comes after a moment.
func TestLoginLetsTheQuestionSettle(t *testing.T) {
	near, far := pipe(1 << 10)
	defer far.Close()
	done := make(chan error, 1)
	go func() {
		_, err := Login(t.Context(), carrier.Stream{ReadWriteCloser: near}, LoginOptions{User: "me", Secret: new(knows).secret})
		done <- err
	}()
	hears := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if n, err := io.ReadFull(far, got); err != nil || string(got) != want {
			t.Fatalf("heard %q, %v; want %q", got[:n], err, want)
		}
	}
	io.WriteString(far, "login: ")
	hears("me\r")
	asked := time.Now()
	io.WriteString(far, "Password: ")
	hears("pw\r")
	if after := time.Since(asked); after < settles {
		t.Errorf("the password came %v after the question, want %v at least", after, settles)
	}
	io.WriteString(far, "\r\n$ ")
	if err := <-done; err != nil {
		t.Error(err)
	}
}
