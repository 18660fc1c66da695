package serve

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of the address for metrics, which a scraper asks now and then.
const (
	scrapesAtOnce = 4
	scrapeTime    = 20 * time.Second
)

// serveMetrics listens for scrapers, and returns what serves them until its context ends.
func (s *service) serveMetrics(address string) (func(context.Context), error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.server, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTime}))
	web := &http.Server{Handler: mux, ReadTimeout: scrapeTime, WriteTimeout: 2 * scrapeTime, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	s.log.Info("metrics", "at", "http://"+l.Addr().String()+"/metrics")
	return func(ctx context.Context) {
		defer context.AfterFunc(ctx, func() { web.Close() })()
		web.Serve(l)
	}, nil
}
