package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/trust"
)

// hintPair is how two machines come to know each other.
const hintPair = "`bodkin key new` on both machines, then `bodkin key trust server NAME KEY` here and `bodkin key trust client KEY` there; or --insecure-accept-eavesdropping"

// ownKey loads this machine's key.
func ownKey(ctx context.Context, dir string) (ed25519.PrivateKey, error) {
	key, err := trust.Load(ctx, filepath.Join(dir, trust.KeyFile), secret.Ask)
	if err != nil {
		return nil, err
	}
	return key.Private, nil
}

// knownAs is what known_servers has the target by.
func knownAs(u *config.Up) (string, error) {
	name := u.KnownAs
	switch t := u.Target; {
	case name != "":
	case t.Local():
		return "", report.At(report.Key, fmt.Errorf("%s has no name that a key could be known by", t), "give it one with --known-as NAME")
	case t.Port != 0 && t.Port != 23 && t.Port != 443:
		name = t.Address()
	default:
		name = t.Host
	}
	name, err := trust.ServerName(name)
	return name, report.At(report.Key, err, "give it another name with --known-as NAME")
}

// identify returns who we are to the far half, and how it proves who it is.
func identify(ctx context.Context, u *config.Up) (c tls.Config, err error) {
	if u.Open {
		c.Anonymous = true
		return c, nil
	}
	dir, err := trust.Dir()
	if err != nil {
		return c, report.At(report.Key, err, "")
	}
	name, err := knownAs(u)
	if err != nil {
		return c, err
	}
	servers, err := trust.LoadKnownServers(filepath.Join(dir, trust.ServersFile))
	if err != nil {
		return c, report.At(report.Key, err, "see `bodkin key list`")
	}
	// Whether it is known at all is asked before anything is dialled.
	var unknown *trust.UnknownError
	if err := servers.Check(name, make(ed25519.PublicKey, ed25519.PublicKeySize)); errors.As(err, &unknown) {
		return c, report.At(report.Key, fmt.Errorf("the key of %s is not known, so nobody there could prove who they are", name), hintPair)
	}
	if c.Key, err = ownKey(ctx, dir); err != nil {
		hint := ""
		var unsafe *trust.UnsafeError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			hint = hintPair
		case errors.As(err, &unsafe):
			hint = unsafe.Remedy
		}
		return c, report.At(report.Key, err, hint)
	}
	c.Verify = func(peer ed25519.PublicKey) error {
		err := servers.Check(name, peer)
		var changed *trust.ChangedError
		if errors.As(err, &changed) {
			return report.At(report.Key, err, "somebody may be between, or it has a new key: compare `bodkin key show` there, then `bodkin key forget server "+name+"` and trust the new one")
		}
		return report.At(report.Key, err, hintPair)
	}
	return c, nil
}

// identifyFar returns who the far half is to a near half, and whom it lets in.
func identifyFar(ctx context.Context, open bool) (c tls.Config, err error) {
	if open {
		c.Anonymous = true
		return c, nil
	}
	dir, err := trust.Dir()
	if err != nil {
		return c, err
	}
	key, err := trust.Load(ctx, filepath.Join(dir, trust.KeyFile), nil)
	if err != nil {
		return c, err
	}
	c.Key = key.Private
	c.Verify = func(peer ed25519.PublicKey) error {
		clients, err := trust.LoadAuthorizedClients(filepath.Join(dir, trust.ClientsFile))
		if err != nil {
			return err
		}
		client, err := clients.Check(peer, time.Now())
		if err == nil && bound(client) {
			err = fmt.Errorf("%s binds the client of line %d to what only `bodkin serve` sees to", trust.ClientsFile, client.Line)
		}
		return err
	}
	return c, nil
}

// bound reports whether a client's line has options that this far half would have to keep
// it to, and does not: then it is not let in at all.
func bound(c trust.Client) bool {
	return len(c.Allow)+len(c.Deny)+len(c.Address) > 0 || c.Flows > 0 || c.Rate > 0
}

// withPairing adds to an error of our own key how two machines are paired.
func withPairing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return report.At(report.Key, err, hintPair)
	}
	return report.At(report.Key, err, "")
}
