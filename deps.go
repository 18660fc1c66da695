package bodkin

import (
	_ "github.com/creack/pty"
	_ "golang.org/x/crypto/md4"
)
