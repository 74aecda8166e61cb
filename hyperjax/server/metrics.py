"""What a server counts, as Prometheus reads it."""

from collections.abc import Callable

import prometheus_client as prometheus

from hyperjax.server.jobs import Ran

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
  """Of one server; names begin with hyperjax_."""

  def __init__(self):
    self.registry = prometheus.CollectorRegistry()
    own = {"registry": self.registry, "namespace": "hyperjax"}
    self._requests = prometheus.Counter(
      "requests", "Requests by route and status.", ["route", "status"], **own
    )
    self._seconds = prometheus.Histogram(
      "request_seconds",
      "From a request's head to its answer's end.",
      ["route"],
      buckets=_SECONDS,
      **own,
    )
    self._rows = prometheus.Histogram(
      "batch_rows",
      "Prompts that were answered together.",
      buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
      **own,
    )
    self._filled = prometheus.Counter(
      "batch_filled_rows", "Rows of batches that only filled them.", **own
    )
    self._waited = prometheus.Histogram(
      "queue_seconds", "What prompts waited.", buckets=_SECONDS, **own
    )
    self._ran = prometheus.Histogram(
      "batch_seconds", "What batches took.", buckets=_SECONDS, **own
    )
    self._tokens = prometheus.Counter(
      "decoded_tokens", "Tokens of answers.", **own
    )
    self.written = prometheus.Counter(
      "written_adapters", "Adapters written from examples.", **own
    )

  def batch(self, ran: Ran) -> None:
    self._rows.observe(ran.rows)
    self._filled.inc(ran.filled - ran.rows)
    self._ran.observe(ran.seconds)
    self._tokens.inc(ran.tokens)
    for seconds in ran.waited:
      self._waited.observe(seconds)

  def request(self, route: str, status: int, seconds: float) -> None:
    self._requests.labels(route, str(status)).inc()
    self._seconds.labels(route).observe(seconds)

  def watch(self, name: str, summary: str, value: Callable[[], float]) -> None:
    """Tells a value that is asked for when it is read."""
    gauge = prometheus.Gauge(
      name, summary, registry=self.registry, namespace="hyperjax"
    )
    gauge.set_function(value)

  def text(self) -> bytes:
    return prometheus.generate_latest(self.registry)
