package chat

import (
	"regexp"
	"strings"
)

// A prompt is what an unfinished line asks for.
type prompt byte

const (
	noPrompt    prompt = iota
	namePrompt         // "gw login: "
	secretAsked        // "Password: "
	codeAsked          // "Verification code: ": a second factor, a one-time password
	newAsked           // "New password: ": it wants another one
	shellPrompt        // "me@gw:~$ "
	proxyPrompt        // "tn-gw-> "
	hostPrompt         // "Enter host name: "
)

// maxPrompt is how long a prompt may be, in octets.
const maxPrompt = 200

var (
	// One word may come before "login:", as that of Debian's getty has the host's name.
	nameForm = regexp.MustCompile(`(?i)^(?:\S+ |(?:please )?(?:enter|type) (?:your )?)?(?:login|username|user name|user|login name|userid|user id)(?: \[[^\]]*\])? ?: ?$`)

	// "Last login:" is the beginning of another line.
	noName = regexp.MustCompile(`(?i)^(last|first|previous|failed|successful|unsuccessful|latest|recent) `)

	secretForm = regexp.MustCompile(`(?i)(pass ?word|passwd|passphrase|pass phrase|kennwort|passwort|mot de passe|contrase|senha|palavra-passe|parola|has\p{L}o|пароль|wachtwoord|l\p{L}senord|passord|adgangskode|salasana|heslo|jelsz|sifre|şifre|κωδικ|密码|密碼|口令|パスワード|비밀번호|암호)`)

	codeForm = regexp.MustCompile(`(?i)(verification code|authentication code|security code|one[- ]time|passcode|response|token|challenge|\botp\b|\bpin\b|enter.* code)`)

	newForm = regexp.MustCompile(`(?i)(\bnew\b|retype|re-enter|again|\bcurrent\b|\bold\b|neues|nouveau|nueva)`)

	// What comes before a prompt, in a line of its own, and belongs to the question:
	// RFC 2289, section 6, and S/Key's before it.
	challengeForm = regexp.MustCompile(`(?i)(^|[\[( ])(otp-[a-z0-9]+|s/?key|snk|challenge)\b.*\d`)

	shellForm = regexp.MustCompile(`[$#%>❯»] $`)

	proxyForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@/()\[\]-]*> ?$`)
	hostForm  = regexp.MustCompile(`(?i)^(please )?(enter |type |specify )?(the |a )?(remote |target |destination |internet )?(host|hostname|destination|address)( ?name| address| and port)?( to connect to)?( ?[\[(][^)\]]*[\])])? ?: ?$`)
)

// AsksOnce reports whether a question wants an answer that is good for once: a one-time
// password, a code. It may hold lines that came before it, as a challenge does.
func AsksOnce(question string) bool {
	return codeForm.MatchString(question) || challengeForm.MatchString(question)
}

// promptOf returns what an unfinished line, printable, asks for. A blank at its end
// counts.
func promptOf(line string) prompt {
	if len(line) > maxPrompt {
		return noPrompt
	}
	text := strings.TrimRight(line, " ")
	asks := strings.HasSuffix(text, ":") || strings.HasSuffix(text, "：")
	switch {
	case shellForm.MatchString(line):
		return shellPrompt
	case nameForm.MatchString(line) && !noName.MatchString(line):
		return namePrompt
	case !asks:
		return noPrompt
	case secretForm.MatchString(text) && newForm.MatchString(text):
		return newAsked
	case codeForm.MatchString(text):
		return codeAsked
	case secretForm.MatchString(text):
		return secretAsked
	}
	return noPrompt
}

// proxyPromptOf is promptOf at a proxy, where what looks like a shell is not one.
func proxyPromptOf(line string) prompt {
	switch {
	case len(line) > maxPrompt:
		return noPrompt
	case proxyForm.MatchString(line):
		return proxyPrompt
	case hostForm.MatchString(line):
		return hostPrompt
	}
	if p := promptOf(line); p != shellPrompt {
		return p
	}
	return noPrompt
}

// refusal is a line that says no to a name or a password: nothing else may be in the
// line, for a message of the day speaks of such things too.
var refusal = regexp.MustCompile(`(?i)^(?:[%*#] ?)?(?:(?:\w*login|su|sudo|doas|pam_\w+|[\w.]*telnetd|error|fatal): )*(?:` + strings.Join([]string{
	`(?:login|logon|password|username|user name) (?:is )?(?:incorrect|invalid|failed|failure|error|denied|not valid)`,
	`(?:incorrect|invalid|bad|wrong|illegal|unknown) (?:login|logon|user|username|user name|password|passwords|account|credentials|response|passcode|code)(?: (?:or|and|/) password)?(?: attempts?)?`,
	`(?:login|logon|authentication|authorization|access|permission|verification|connection)(?: is| has been)? (?:failure|failed|denied|refused|incorrect|error|rejected|unsuccessful|token manipulation error|information cannot be recovered)`,
	`sorry`,
	`you (?:do not have permission|are not authorized|are not allowed).*`,
	`(?:your |this |user )?account (?:has )?(?:is |been )?(?:locked|disabled|expired|currently not available).*`,
	`this account is currently not available`,
	`\d+ incorrect password attempts?`,
	`no password was provided|a password is required|a terminal is required.*`,
	`must be (?:suid|setuid|run from a terminal|root).*|effective uid is not 0.*`,
	`sorry, (?:try again|user \S+ (?:is not allowed|may not).*|you must have a tty.*|you are not .*|.*permi(?:t|ss).*)`,
	`\S+ is not in the sudoers file.*|user \S+ not in sudoers.*|\S+ is not allowed to (?:run|execute).*`,
	`user \S+ does not exist.*`,
	`too many (?:login |authentication )?(?:failures|attempts|tries).*|maximum .*(?:attempts|tries|retries).*(?:exceeded|reached).*`,
}, `|`) + `)(?: \([^)]*\))?(?:, please try again|, try again|; try again)?[.!]*$`)

// missing is a shell's line that says that there is no su or sudo.
var missing = regexp.MustCompile(`(?i)\b(su|sudo): (command )?not found\b|\b(not found|unknown command): (su|sudo)\b|\b(su|sudo): (no such file|permission denied|cannot execute)`)

// expired is a line that says that the password must be changed first.
var expired = regexp.MustCompile(`(?i)(password (has |is )?expired|required to change your password|must change your password|change your password (immediately|now)|changing password for)`)

// connected is the line with which a proxy ends its part. Nothing follows of it.
var connected = regexp.MustCompile(`(?i)(^|[^a-z] ?)(connected( to\b|[.!]*$)|connection (is |has been )?(established|open|opened|successful|completed)|connect(ion)? ok)`)

// notConnected is a line with which it refuses, when it answers where to connect.
var notConnected = regexp.MustCompile(`(?i)(not permitted|not allowed|not authori[sz]ed|permission|denied|forbidden|prohibited|refused|rejected|unknown|no route|unreachable|time(d|s)?[- ]?out|sorry|invalid|illegal|\bbad\b|fail|error|cannot|can't|can not|could ?n[o']t|could not|unable|no such|not known|not found|no address|not connected|usage:|closed|down\b)`)
