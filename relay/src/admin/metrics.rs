//! `/metrics`, in the text format of Prometheus.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{Admin, server::failure};
use crate::tenants::View;

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge<i64, std::sync::atomic::AtomicI64>>;

pub(super) async fn answer(State(admin): State<Arc<Admin>>) -> Response {
    let text = match admin.metrics() {
        Ok(text) => text,
        Err(error) => {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
        }
    };
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let format = HeaderValue::from_static(format);
    ([(header::CONTENT_TYPE, format)], text).into_response()
}

impl Admin {
    fn metrics(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("hark_relay");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "What runs", Info::new(version));
        let uptime = Gauge::<i64>::default();
        let up = self.clock.now().saturating_duration_since(self.started);
        uptime.set(i64::try_from(up.as_secs()).unwrap_or(i64::MAX));
        registry.register_with_unit("uptime", "Time since the start", Unit::Seconds, uptime);
        let refused = Counter::<u64, AtomicU64>::default();
        refused.inc_by(self.refused.load(Ordering::Relaxed));
        registry.register("admin_refused", "Requests without the right token", refused);
        Tables::register(&mut registry).fill(&self.tenants.list());
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// The metrics of each organisation.
struct Tables {
    running: Gauges,
    named: Gauges,
    sessions: Gauges,
    channels: Gauges,
    bans: Gauges,
    draining: Gauges,
    quotas: Gauges,
    packets: Counters,
    bytes: Counters,
    dropped: Counters,
}

impl Tables {
    fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let family = Gauges::default();
            registry.register(name, help, family.clone());
            family
        };
        let running = gauge("running", "Whether the organisation is carried");
        let named = gauge("named", "Whether its charter names this relay");
        let sessions = gauge("sessions", "Attached devices");
        let channels = gauge("channels", "Channels that attached devices hear");
        let bans = gauge("bans", "Devices that are kept out");
        let draining = gauge("draining", "Whether nothing new is taken");
        let quotas = gauge("quota", "How much may be used; 0 is any number");
        let mut counter = |name: &str, help: &str| {
            let family = Counters::default();
            registry.register(name, help, family.clone());
            family
        };
        let packets = counter("packets", "Packets from devices (in) and to them (out)");
        let bytes = counter("traffic_bytes", "Bytes of these packets");
        let dropped = counter("dropped_packets", "Packets that were not carried");
        Self { running, named, sessions, channels, bans, draining, quotas, packets, bytes, dropped }
    }

    fn fill(&self, views: &[View]) {
        for view in views {
            let of = |more: Option<(&'static str, &str)>| -> Labels {
                let name = view.name.clone().unwrap_or_default();
                let mut labels = vec![("organisation", view.id.0.to_string()), ("name", name)];
                labels.extend(more.map(|(label, value)| (label, value.to_owned())));
                labels
            };
            let set = |family: &Gauges, value: usize| {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                family.get_or_create(&of(None)).set(value);
            };
            let status = view.status.as_str();
            let draining = matches!(status, "draining" | "drained");
            set(&self.running, usize::from(draining || status == "running"));
            set(&self.draining, usize::from(draining));
            set(&self.named, usize::from(view.named));
            set(&self.sessions, view.sessions);
            set(&self.channels, view.channels);
            set(&self.bans, view.bans);
            let quotas = view.quotas;
            for (quota, value) in [
                ("members", quotas.members),
                ("channels", quotas.channels),
                ("kbps", quotas.kbps),
                ("packets", quotas.packets),
            ] {
                self.quotas.get_or_create(&of(Some(("quota", quota)))).set(value.into());
            }
            let traffic = view.traffic;
            for (direction, packets, bytes) in [
                ("in", traffic.packets_in, traffic.bytes_in),
                ("out", traffic.packets_out, traffic.bytes_out),
            ] {
                let labels = of(Some(("direction", direction)));
                self.packets.get_or_create(&labels).inc_by(packets);
                self.bytes.get_or_create(&labels).inc_by(bytes);
            }
            for (reason, packets) in &view.dropped {
                self.dropped.get_or_create(&of(Some(("reason", reason.as_str())))).inc_by(*packets);
            }
        }
    }
}
