//! The life of a request: admitted, tokenised off the async threads, queued, answered from shared forward passes.
//!
//! One thread runs forward passes back to back and takes what waits each time it is free: a lone request goes at once,
//! and batches grow by themselves while it is busy. Tokenising and putting answers together have threads of their own,
//! by lane, so that they overlap with forward passes and a large bulk request does not stand in a chat's way.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rayon::prelude::*;
use tokio::sync::oneshot;

use super::{
    EngineError, Lane, ScoreOptions, ScoreReply, TextError, Timing,
    admission::{Admission, Gate, Refused},
    measure::Measures,
    model::Model,
    scheduler::{BatchLimits, Queue},
    tasks::{Reading, TextPlan},
    tokenize::TEXT_TOKENS_MAX,
};

/// A forward pass should take about this long at most, so that what arrives meanwhile does not wait longer ...
const BATCH_TIME: Duration = Duration::from_millis(100);
/// ... and one of bulk work about half of it.
const BULK_TIME: Duration = Duration::from_millis(50);
/// Batches are not cut below this many tokens, where matrix products become inefficient.
const BATCH_TOKENS_MIN: usize = 256;

/// Bytes of a text for each token of the estimate by which a request is admitted.
const BYTES_PER_TOKEN: usize = 4;

/// How long a refused caller is told to wait, at least and at most.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Weight of the last batch in the running mean of the speed.
const SPEED_WEIGHT: f64 = 0.2;

/// What all callers, the tokenising threads and the forward thread share.
pub struct Server {
    pub model: Arc<Model>,
    pub gate: Arc<Gate>,
    measures: Measures,
    batch_tokens_max: usize,
    queue_tokens_max: usize,
    state: Mutex<State>,
    work_waits: Condvar,
    /// Threads that tokenise and put answers together, by lane.
    interactive_aside: rayon::ThreadPool,
    bulk_aside: rayon::ThreadPool,
}

struct State {
    queue: Queue<Work>,
    tokens_per_s: f64,
    stopped: bool,
}

/// One window of one text.
struct Work {
    request: Arc<Request>,
    text: usize,
    window: usize,
    tokens: usize,
}

/// A request whose texts are tokenised.
struct Request {
    plans: Vec<Result<TextPlan, TextError>>,
    options: ScoreOptions,
    admission: Admission,
    arrived: Instant,
    queued: Instant,
    progress: Mutex<Progress>,
}

struct Progress {
    readings: Vec<Vec<Option<Reading>>>,
    windows_left: usize,
    reply: Option<oneshot::Sender<Result<ScoreReply, EngineError>>>,
    begun: Option<Instant>,
    forward: Duration,
}

impl Server {
    /// Starts the forward thread; it ends after [`Server::stop`].
    pub fn start(
        model: Model,
        batch_tokens_max: usize,
        queue_tokens_max: usize,
    ) -> Result<Arc<Self>, EngineError> {
        let threads = model.executor.info().threads;
        let pool = |name: &'static str, threads: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |i| format!("{name}-{i}"))
                .build()
                .map_err(|e| EngineError::Model(format!("threads: {e}")))
        };
        let server = Arc::new(Self {
            measures: Measures::new(&model.reference.name),
            gate: Gate::new(queue_tokens_max),
            batch_tokens_max,
            queue_tokens_max,
            state: Mutex::new(State {
                queue: Queue::new(),
                tokens_per_s: model.tokens_per_s,
                stopped: false,
            }),
            work_waits: Condvar::new(),
            interactive_aside: pool("tokenize", threads)?,
            bulk_aside: pool("tokenize-bulk", threads.div_ceil(2))?,
            model: Arc::new(model),
        });
        let of_thread = server.clone();
        std::thread::Builder::new()
            .name("batches".into())
            .spawn(move || of_thread.run())
            .map_err(|e| EngineError::Model(format!("threads: {e}")))?;
        Ok(server)
    }

    /// Admits a request and returns where its answer will come.
    pub fn submit(
        self: &Arc<Self>,
        texts: Vec<String>,
        options: ScoreOptions,
    ) -> Result<oneshot::Receiver<Result<ScoreReply, EngineError>>, EngineError> {
        let arrived = Instant::now();
        let estimate = texts.iter().map(|t| (t.len() / BYTES_PER_TOKEN + 2).min(TEXT_TOKENS_MAX)).sum();
        let admission = self.gate.admit(options.lane, estimate).map_err(|refused| match refused {
            Refused::Closed => EngineError::ShuttingDown,
            Refused::Full { tokens } => {
                self.measures.rejected(options.lane);
                let seconds = tokens as f64 / self.state().tokens_per_s.max(1.0);
                EngineError::Overloaded {
                    queue_tokens_max: self.queue_tokens_max,
                    retry_after: Duration::from_secs_f64(seconds.min(1e6))
                        .clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX),
                }
            }
        })?;
        let (reply, answer) = oneshot::channel();
        let server = self.clone();
        self.aside(options.lane, move || server.prepare(texts, options, admission, arrived, reply));
        Ok(answer)
    }

    /// Runs `job` on the lane's own threads, beside forward passes.
    fn aside(&self, lane: Lane, job: impl FnOnce() + Send + 'static) {
        let pool = match lane {
            Lane::Interactive => &self.interactive_aside,
            Lane::Bulk => &self.bulk_aside,
        };
        pool.spawn(move || {
            // A panic here would end the process; caught, it ends one request: its reply is dropped.
            let _ = catch_unwind(AssertUnwindSafe(job));
        });
    }

    fn prepare(
        &self,
        texts: Vec<String>,
        options: ScoreOptions,
        admission: Admission,
        arrived: Instant,
        reply: oneshot::Sender<Result<ScoreReply, EngineError>>,
    ) {
        if reply.is_closed() {
            return;
        }
        let model = &self.model;
        let plans: Vec<Result<TextPlan, TextError>> =
            texts.into_par_iter().map(|text| model.plan(text, options.tasks)).collect();
        let sequences: Vec<(usize, usize, usize)> = plans
            .iter()
            .enumerate()
            .filter_map(|(i, plan)| Some((i, plan.as_ref().ok()?)))
            .flat_map(|(i, plan)| (0..plan.windows()).map(move |w| (i, w, model.sequence_tokens(plan, w))))
            .collect();
        admission.settle(sequences.iter().map(|(_, _, tokens)| tokens).sum());
        let readings = plans.iter().map(|p| vec![None; p.as_ref().map_or(0, TextPlan::windows)]).collect();
        let request = Arc::new(Request {
            plans,
            options: options.clone(),
            admission,
            arrived,
            queued: Instant::now(),
            progress: Mutex::new(Progress {
                readings,
                windows_left: sequences.len(),
                reply: Some(reply),
                begun: None,
                forward: Duration::ZERO,
            }),
        });
        if sequences.is_empty() {
            self.answer(&request);
            return;
        }
        let work = sequences
            .into_iter()
            .map(|(text, window, tokens)| (tokens, Work { request: request.clone(), text, window, tokens }));
        let mut state = self.state();
        if state.stopped {
            return;
        }
        let deadline = options.deadline.map(|d| arrived + d);
        state.queue.push(options.lane, request.queued, deadline, work);
        self.measure_queue(&state);
        self.work_waits.notify_one();
    }

    /// Ends the forward thread. What still waits is dropped, and its callers are told.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        let dropped = state.queue.drain();
        self.work_waits.notify_all();
        drop(state);
        for work in dropped {
            work.request.fail(EngineError::ShuttingDown);
        }
    }

    fn run(self: Arc<Self>) {
        while let Some(batch) = self.next_batch() {
            self.run_batch(batch);
        }
    }

    /// Waits for work; `None` when stopped.
    fn next_batch(&self) -> Option<Vec<Work>> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            let expired = state.queue.take_expired(Instant::now());
            let limits = self.limits(state.tokens_per_s);
            let batch = state.queue.take(limits);
            if batch.is_empty() && expired.is_empty() {
                state = self.work_waits.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            self.measure_queue(&state);
            drop(state);
            for work in expired {
                if work.request.fail(EngineError::DeadlineExceeded) {
                    self.measures.expired(work.request.options.lane);
                }
            }
            // Whose caller has gone, or was answered with an error, costs no forward.
            let batch: Vec<Work> = batch.into_iter().filter(|w| w.request.is_wanted()).collect();
            if !batch.is_empty() {
                return Some(batch);
            }
            state = self.state();
        }
    }

    fn limits(&self, tokens_per_s: f64) -> BatchLimits {
        let tokens_in = |time: Duration| {
            ((tokens_per_s * time.as_secs_f64()) as usize).max(BATCH_TOKENS_MIN).min(self.batch_tokens_max)
        };
        BatchLimits { batch_tokens_max: tokens_in(BATCH_TIME), bulk_tokens_max: tokens_in(BULK_TIME) }
    }

    fn run_batch(self: &Arc<Self>, batch: Vec<Work>) {
        let begun = Instant::now();
        for work in &batch {
            work.request.admission.release(work.tokens);
            if work.request.begin(begun) {
                self.measures.waited(work.request.options.lane, begun - work.request.queued);
            }
        }
        let windows: Vec<(&TextPlan, usize)> =
            batch.iter().filter_map(|w| Some((w.request.plan(w.text)?, w.window))).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.model.forward(&windows)));
        let spent = begun.elapsed();
        let tokens: usize = batch.iter().map(|w| w.tokens).sum();
        self.measures.batch(tokens, spent);
        {
            let mut state = self.state();
            let speed = tokens as f64 / spent.as_secs_f64().max(1e-6);
            state.tokens_per_s += SPEED_WEIGHT * (speed - state.tokens_per_s);
        }
        let readings = match outcome {
            Ok(Ok(readings)) => readings,
            Ok(Err(error)) => return fail_all(&batch, &error.to_string()),
            Err(_) => return fail_all(&batch, "the forward pass failed"),
        };
        let mut last: Option<&Arc<Request>> = None;
        for (work, reading) in batch.iter().zip(readings) {
            self.measures.sequence(work.request.options.lane, work.tokens);
            let first_of_batch = last.is_none_or(|l| !Arc::ptr_eq(l, &work.request));
            let spent = if first_of_batch { spent } else { Duration::ZERO };
            last = Some(&work.request);
            if work.request.record(work.text, work.window, reading, spent) {
                let (server, request) = (self.clone(), work.request.clone());
                self.aside(request.options.lane, move || server.answer(&request));
            }
        }
    }

    /// Merges a request's readings and sends them off.
    fn answer(&self, request: &Request) {
        let mut progress = request.progress();
        let readings = std::mem::take(&mut progress.readings);
        let results = request
            .plans
            .iter()
            .zip(readings)
            .map(|(plan, readings)| match plan {
                Ok(plan) => {
                    let readings: Vec<Reading> = readings.into_iter().flatten().collect();
                    plan.merge(&self.model.slots, &readings)
                }
                Err(error) => Err(error.clone()),
            })
            .collect();
        let tokens = request.plans.iter().flatten().map(TextPlan::tokens).sum();
        self.measures.texts(request.options.lane, request.plans.len());
        let begun = progress.begun.unwrap_or(request.queued);
        let reply = ScoreReply {
            results,
            models: self.model.references(&request.options.tasks),
            tokens,
            timing: Timing {
                tokenize_ms: milliseconds(request.queued - request.arrived),
                queue_ms: milliseconds(begun - request.queued),
                forward_ms: milliseconds(progress.forward),
                total_ms: milliseconds(request.arrived.elapsed()),
            },
        };
        if let Some(sender) = progress.reply.take() {
            // A caller that has gone needs no answer.
            let _ = sender.send(Ok(reply));
        }
    }

    fn measure_queue(&self, state: &State) {
        for lane in [Lane::Interactive, Lane::Bulk] {
            self.measures.queue_tokens(lane, state.queue.tokens(lane));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The queue is consistent between statements; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn batch_tokens_max(&self) -> usize {
        self.batch_tokens_max
    }

    pub fn queue_tokens_max(&self) -> usize {
        self.queue_tokens_max
    }
}

fn fail_all(batch: &[Work], reason: &str) {
    for work in batch {
        work.request.fail(EngineError::Model(reason.into()));
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Request {
    fn plan(&self, text: usize) -> Option<&TextPlan> {
        self.plans[text].as_ref().ok()
    }

    /// Notes when the first part of a request goes into a batch; true the first time.
    fn begin(&self, now: Instant) -> bool {
        let mut progress = self.progress();
        let first = progress.begun.is_none();
        progress.begun.get_or_insert(now);
        first
    }

    /// Keeps a reading; true when it was the last.
    fn record(&self, text: usize, window: usize, reading: Reading, spent: Duration) -> bool {
        let mut progress = self.progress();
        progress.forward += spent;
        progress.readings[text][window] = Some(reading);
        progress.windows_left -= 1;
        progress.windows_left == 0
    }

    /// Answers with an error; false where there was an answer already.
    fn fail(&self, error: EngineError) -> bool {
        match self.progress().reply.take() {
            Some(sender) => {
                let _ = sender.send(Err(error));
                true
            }
            None => false,
        }
    }

    fn is_wanted(&self) -> bool {
        self.progress().reply.as_ref().is_some_and(|r| !r.is_closed())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
