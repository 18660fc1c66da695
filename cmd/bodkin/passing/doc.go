// Package passing is how two processes of bodkin's speak on one machine: messages in
// JSON, one in each packet of a Unix socket, with open files beside them (SCM_RIGHTS,
// unix(7)).
package passing
