package serve

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bodkin-net/bodkin/server/front"
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
	registry.MustRegister(connections(s.front)...)
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

// connections are the counts of the front.
func connections(stats *front.Stats) []prometheus.Collector {
	counter := func(name, help string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "bodkin_connections_" + name + "_total", Help: help}, func() float64 { return float64(n.Load()) })
	}
	gauge := func(name, help string, n *atomic.Int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bodkin_connections_" + name, Help: help}, func() float64 { return float64(n.Load()) })
	}
	return []prometheus.Collector{
		counter("accepted", "Connections taken.", &stats.Accepted),
		counter("unknown", "Connections closed that began as nothing known.", &stats.Unknown),
		counter("left", "Connections that ended before they were known.", &stats.Left),
		counter("gave_way", "Connections closed as too many had not said who they are.", &stats.GaveWay),
		counter("late", "Connections closed as they did not say in time who they are.", &stats.Late),
		gauge("waiting", "Connections that have not said who they are.", &stats.Waiting),
		gauge("open", "Connections there are.", &stats.Open),
	}
}
