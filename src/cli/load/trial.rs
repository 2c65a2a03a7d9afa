//! One run at one rate: a thread that sends each request when it is due, and tasks that wait for the answers.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Semaphore, mpsc};

use super::{
    bodies::Bodies,
    pace::{Pace, sleep_until},
    report::Report,
    tally::{Exchange, Tally},
    target::{Answer, Target},
};

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// So long after the warm-up.
    After(Duration),
    /// After so many requests beyond the warm-up.
    Requests(u64),
}

#[derive(Clone)]
pub struct Trial {
    pub target: Target,
    pub bodies: Arc<Bodies>,
    pub pace: Pace,
    pub end: End,
    pub warm_up: Duration,
    /// Requests under way at once.
    pub connections_max: usize,
    /// How long a request may take, counted from when it was due.
    pub timeout: Duration,
    /// What the requests carry in their bodies.
    pub deadline: Option<Duration>,
}

/// Time between two looks at the progress.
const TICK: Duration = Duration::from_millis(200);

/// What the tasks of a run share.
struct Shared {
    target: Target,
    connections: Semaphore,
    timeout: Duration,
    tally: Mutex<Tally>,
    under_way: AtomicU64,
    answered: AtomicU64,
}

impl Trial {
    /// Runs it; `label` stands in front of the progress bar.
    pub async fn run(&self, label: &str) -> anyhow::Result<Report> {
        let arrivals: Vec<Duration> = self.moments();
        let length = match self.end {
            End::After(duration) => duration,
            End::Requests(_) => {
                arrivals.last().map_or(Duration::ZERO, |last| *last - self.warm_up.min(*last))
            }
        };
        let forward_before = self.target.forward_seconds().await;
        let cpu_before = cpu_seconds();
        let begun = Instant::now() + TICK;
        let window = (begun + self.warm_up, begun + self.warm_up + length + Duration::from_micros(1));
        let shared = Arc::new(Shared {
            target: self.target.clone(),
            connections: Semaphore::new(self.connections_max),
            timeout: self.timeout,
            tally: Mutex::new(Tally::new(window, self.deadline)),
            under_way: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let (finished, mut all_finished) = mpsc::channel::<()>(1);
        let progress = Progress::start(label, window.1 - begun, shared.clone());
        self.send(arrivals, begun, &shared, finished).await?;
        let spent = (self.target.forward_seconds().await, cpu_seconds(), Instant::now());
        // Every task holds a sender; this ends when the last one is done.
        while all_finished.recv().await.is_some() {}
        progress.stop();
        let elapsed = spent.2 - begun;
        let busy = |before: Option<f64>, after: Option<f64>| {
            Some((after? - before?).max(0.0) / elapsed.as_secs_f64().max(1e-9))
        };
        let tally = shared.tally();
        Ok(Report::new(
            self,
            &tally,
            window.1 - window.0,
            busy(forward_before, spent.0),
            busy(cpu_before, spent.1),
        ))
    }

    /// All moments at which a request is due, counted from the beginning.
    fn moments(&self) -> Vec<Duration> {
        let arrivals = self.pace.arrivals();
        match self.end {
            End::After(duration) => arrivals.take_while(|at| *at < self.warm_up + duration).collect(),
            End::Requests(requests) => {
                let mut counted = 0;
                arrivals
                    .take_while(|at| {
                        counted += u64::from(*at >= self.warm_up);
                        counted <= requests
                    })
                    .collect()
            }
        }
    }

    /// Starts a task for each request when it is due; returns after the last was started.
    async fn send(
        &self,
        arrivals: Vec<Duration>,
        begun: Instant,
        shared: &Arc<Shared>,
        finished: mpsc::Sender<()>,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Handle::current();
        let (shared, bodies) = (shared.clone(), self.bodies.clone());
        let pacing = move || {
            for (i, at) in arrivals.into_iter().enumerate() {
                let due = begun + at;
                sleep_until(due);
                let (shared, finished, body) = (shared.clone(), finished.clone(), bodies.get(i as u64));
                shared.under_way.fetch_add(1, Relaxed);
                runtime.spawn(async move {
                    shared.exchange(body, due).await;
                    drop(finished);
                });
            }
        };
        tokio::task::spawn_blocking(pacing).await.context("sending was interrupted")
    }
}

impl Shared {
    async fn exchange(&self, body: axum::body::Bytes, due: Instant) {
        let until = due + self.timeout;
        let exchange = match tokio::time::timeout_at(until.into(), self.connections.acquire()).await {
            Ok(_connection) => {
                let sent = Instant::now();
                let (answer, done) = self.target.send(body, until).await;
                Exchange { due, sent: Some(sent), done, answer }
            }
            Err(_) => Exchange { due, sent: None, done: Instant::now(), answer: Answer::TimedOut },
        };
        self.tally().add(exchange);
        self.under_way.fetch_sub(1, Relaxed);
        self.answered.fetch_add(1, Relaxed);
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Counters are consistent between statements.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bar over the time of the run, on a terminal.
struct Progress(Option<(ProgressBar, tokio::task::JoinHandle<()>)>);

impl Progress {
    fn start(label: &str, length: Duration, shared: Arc<Shared>) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::new(length.as_millis() as u64);
        let template = "{prefix}{bar:40} {percent:>3} %  {msg}";
        // Falls back to the usual look; the template is fixed and right.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(label.to_owned());
        let (ticking, begun) = (bar.clone(), Instant::now());
        let ticker = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                ticking.set_position(begun.elapsed().as_millis() as u64);
                let (answered, under_way) = (shared.answered.load(Relaxed), shared.under_way.load(Relaxed));
                ticking.set_message(format!("{answered} answered, {under_way} under way"));
            }
        });
        Progress(Some((bar, ticker)))
    }

    fn stop(self) {
        if let Some((bar, ticker)) = self.0 {
            ticker.abort();
            bar.finish_and_clear();
        }
    }
}

/// Processor time that this process has used; `None` where the system does not say.
fn cpu_seconds() -> Option<f64> {
    /// Clock ticks a second in `/proc`, the same on every Linux.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold spaces; user and system time are the 12th and 13th fields after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_S)
}
