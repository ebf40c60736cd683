use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Tells streams when they have to end: each at a moment of its own, at random, so that not all
/// clients come back at once.
#[derive(Debug, Default)]
pub(crate) struct Curfew {
    hours: OnceLock<Hours>,
    told: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Hours {
    first: Instant,
    last: Instant,
    /// When the closing of the last one is over too.
    end: Instant,
}

/// How long both sides of a stream have to close theirs, at most, and in a short time that part of it.
const FAREWELL: Duration = Duration::from_secs(1);
const PART_FOR_FAREWELL: u32 = 8;

impl Curfew {
    /// No stream lasts longer than `limit` from now on, and none has to end in the first half of
    /// it. Only the first time counts.
    pub(crate) fn tell(&self, limit: Duration) {
        self.tell_after(limit / 2, limit);
    }

    /// The same where the first ones end at once: somebody waits for the last one.
    pub(crate) fn hurry(&self, limit: Duration) {
        self.tell_after(Duration::ZERO, limit);
    }

    fn tell_after(&self, peace: Duration, limit: Duration) {
        let begin = Instant::now();
        // A time beyond the clock's range is no limit.
        let Some(end) = begin.checked_add(limit) else {
            return;
        };
        let farewell = FAREWELL.min(limit / PART_FOR_FAREWELL);
        self.hours.get_or_init(|| Hours {
            first: begin + peace,
            last: end - farewell,
            end,
        });
        self.told.notify_waiters();
    }

    /// Waits for the moment of one stream. Gives until when its closing may take.
    async fn moment(&self) -> Instant {
        let mut told = std::pin::pin!(self.told.notified());
        let hours = loop {
            told.as_mut().enable();
            if let Some(hours) = self.hours.get() {
                break hours;
            }
            told.as_mut().await;
            told.set(self.told.notified());
        };
        let from = hours.first.max(Instant::now()).min(hours.last);
        let moment = from + (hours.last - from).mul_f64(fastrand::f64());
        sleep_until(moment).await;
        hours.end.min(Instant::now() + FAREWELL)
    }
}

/// One stream's wait for its moment, by the first of its curfews that has one: registered once, and
/// without a timer until it has been told.
pub(crate) struct Bedtime<'a> {
    curfews: [&'a Curfew; 2],
    moment: Pin<Box<dyn Future<Output = Instant> + Send + 'a>>,
    is_known: bool,
}

impl<'a> Bedtime<'a> {
    pub(crate) fn new(curfews: [&'a Curfew; 2]) -> Bedtime<'a> {
        let [one, other] = curfews;
        Bedtime {
            curfews,
            moment: Box::pin(async {
                tokio::select! {
                    until = one.moment() => until,
                    until = other.moment() => until,
                }
            }),
            is_known: false,
        }
    }

    /// Ready at the moment, with the time until which the closing may take. One task must poll it
    /// for as long as it lives, and not again when it was ready.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        // To ask the notification each time that a byte moves would be to take its lock.
        let is_told = || self.curfews.iter().any(|one| one.hours.get().is_some());
        if std::mem::replace(&mut self.is_known, true) && !is_told() {
            return Poll::Pending;
        }
        self.moment.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn stream(curfew: &Arc<Curfew>) -> tokio::task::JoinHandle<(Instant, Instant)> {
        let curfew = Arc::clone(curfew);
        tokio::spawn(async move {
            let other = Curfew::default();
            let mut bedtime = Bedtime::new([&curfew, &other]);
            let until = poll_fn(|cx| bedtime.poll(cx)).await;
            (Instant::now(), until)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn streams_end_over_the_last_half() {
        let curfew = Arc::new(Curfew::default());
        let mut streams: Vec<_> = (0..500).map(|_| stream(&curfew)).collect();
        tokio::time::sleep(2 * LIMIT).await;
        assert!(!streams.iter().any(|stream| stream.is_finished()));
        let told = Instant::now();
        curfew.tell(LIMIT);
        curfew.tell(Duration::ZERO);
        tokio::time::sleep(LIMIT / 2 - Duration::from_millis(1)).await;
        assert!(!streams.iter().any(|stream| stream.is_finished()));
        // One that begins meanwhile.
        streams.push(stream(&curfew));
        let mut quarters = [0; 4];
        for stream in streams {
            let (moment, until) = stream.await.unwrap();
            let late = moment - told - LIMIT / 2;
            assert!(until <= told + LIMIT && until - moment <= FAREWELL);
            quarters[(late.as_secs_f64() / (LIMIT.as_secs_f64() / 8.0)) as usize] += 1;
        }
        // 125 each, were the farewell not.
        assert!(quarters.iter().all(|&count| count > 60), "{quarters:?}");
        assert!(told.elapsed() <= LIMIT);
        // And one that comes too late.
        tokio::time::sleep(LIMIT).await;
        let begun = Instant::now();
        let (moment, until) = stream(&curfew).await.unwrap();
        assert!(moment - begun <= Duration::from_millis(1) && until <= moment);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_is_at_once_and_endless_time_is_never() {
        let curfew = Arc::new(Curfew::default());
        curfew.tell(Duration::MAX);
        let late = stream(&curfew);
        tokio::time::sleep(LIMIT).await;
        assert!(!late.is_finished());
        let begun = Instant::now();
        curfew.tell(Duration::ZERO);
        let (moment, until) = late.await.unwrap();
        assert!(moment - begun <= Duration::from_millis(1) && until <= moment);
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_hurry_streams_end_over_the_whole_time() {
        let curfew = Arc::new(Curfew::default());
        let streams: Vec<_> = (0..400).map(|_| stream(&curfew)).collect();
        tokio::task::yield_now().await;
        let told = Instant::now();
        curfew.hurry(LIMIT);
        let mut quarters = [0; 4];
        for stream in streams {
            let (moment, until) = stream.await.unwrap();
            assert!(until <= told + LIMIT);
            quarters[((moment - told).as_secs_f64() / (LIMIT.as_secs_f64() / 4.0)) as usize] += 1;
        }
        assert!(quarters.iter().all(|&count| count > 50), "{quarters:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_curfews_the_earlier_moment_counts() {
        let long = 10 * LIMIT;
        for (limits, latest) in [([long, LIMIT], LIMIT), ([LIMIT, long], LIMIT)] {
            let curfews = Arc::new([Curfew::default(), Curfew::default()]);
            let stream = tokio::spawn({
                let curfews = Arc::clone(&curfews);
                async move {
                    let [one, other] = &*curfews;
                    let mut bedtime = Bedtime::new([one, other]);
                    poll_fn(|cx| bedtime.poll(cx)).await;
                    Instant::now()
                }
            });
            tokio::task::yield_now().await;
            let told = Instant::now();
            for (curfew, limit) in curfews.iter().zip(limits) {
                curfew.tell(limit);
                tokio::task::yield_now().await;
            }
            assert!(stream.await.unwrap() - told <= latest);
        }
    }
}
