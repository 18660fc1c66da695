package bodkin

import _ "github.com/Azure/go-ntlmssp" // until carrier/httpproxy imports it

import _ "golang.org/x/net/http/httpproxy" // until cmd/bodkin/way is whole
