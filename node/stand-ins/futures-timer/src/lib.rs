//! The interface of the crate `futures-timer`, on tokio's clock.
//!
//! libp2p uses `futures-timer` for its timeouts, which has a thread and a clock of its own. On
//! tokio's clock the timeouts need neither, and follow virtual time if a simulation sets it.

#![forbid(unsafe_code)]

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// A future that completes after a time. It must be polled on a tokio runtime.
#[derive(Debug)]
pub struct Delay(Pin<Box<Sleep>>);

impl Delay {
    /// A future that completes `duration` from now.
    pub fn new(duration: Duration) -> Self {
        Self(Box::pin(tokio::time::sleep(duration)))
    }

    /// Starts again: the future completes `duration` from now.
    pub fn reset(&mut self, duration: Duration) {
        self.0.as_mut().reset(Instant::now() + duration);
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_delay_follows_the_clock_of_the_runtime() {
        let start = Instant::now();
        Delay::new(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_delay_starts_again() {
        let start = Instant::now();
        let mut delay = Delay::new(Duration::from_secs(1));
        tokio::time::advance(Duration::from_millis(900)).await;
        delay.reset(Duration::from_secs(1));
        delay.await;
        assert_eq!(start.elapsed(), Duration::from_millis(1_900));
    }
}
