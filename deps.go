package bodkin

import _ "github.com/Azure/go-ntlmssp" // until carrier/httpproxy imports it
