//! Looks up names through DNS.

use std::{fmt::Display, net::IpAddr};

use futures::{FutureExt, future::BoxFuture};
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};

use super::{NameError, NameSource};

/// The name servers that this machine is configured with at the time of each lookup.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Name servers to use in place of the machine's.
    servers: Option<ResolverConfig>,
}

impl Dns {
    /// Uses these name servers.
    #[cfg(test)]
    pub(super) fn of(servers: ResolverConfig) -> Self {
        Self { servers: Some(servers) }
    }

    /// The addresses of the name servers. Fails with a line for a person if none is known.
    pub fn servers() -> Result<Vec<IpAddr>, NameError> {
        let (config, _) =
            hickory_resolver::system_conf::read_system_conf().map_err(server_error)?;
        let servers: Vec<_> = config.name_servers.iter().map(|server| server.ip).collect();
        if servers.is_empty() {
            return Err(NameError::Server("no name server is set".to_owned()));
        }
        Ok(servers)
    }

    fn resolver(&self) -> Result<TokioResolver, NameError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = match &self.servers {
            None => TokioResolver::builder(provider).map_err(server_error)?,
            Some(servers) => TokioResolver::builder_with_config(servers.clone(), provider),
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        // Names are looked up only once in some minutes.
        options.cache_size = 0;
        builder.build().map_err(server_error)
    }
}

impl NameSource for Dns {
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, NameError>> {
        async move {
            // The name is absolute, so that the machine's own domain is not appended.
            let lookup = self.resolver()?.txt_lookup(format!("{name}.")).await.map_err(error)?;
            let texts = lookup.answers().iter().filter_map(|record| match &record.data {
                RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
                _ => None,
            });
            Ok(texts.collect())
        }
        .boxed()
    }

    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, NameError>> {
        async move {
            let lookup = self.resolver()?.lookup_ip(name).await.map_err(error)?;
            Ok(lookup.iter().collect())
        }
        .boxed()
    }
}

fn error(error: NetError) -> NameError {
    if error.is_no_records_found() { NameError::Nothing } else { server_error(error) }
}

/// The type of a resolver's errors differs between systems.
fn server_error(error: impl Display) -> NameError {
    NameError::Server(error.to_string())
}
