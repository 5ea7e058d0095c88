//! The pool of threads, memory and devices that the instances of a run share.
//!
//! An instance begins when everything it needs is free at once and holds it until it ends, so nobody waits for a part while
//! holding another. One that needs more threads or memory than there are runs alone; nothing waits for ever.

use std::collections::BTreeMap;

use super::RunOptions;

/// What an instance needs to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Threads; none for a share of those that are free.
    pub(super) threads: Option<usize>,
    /// Bytes of memory, as far as they are known.
    pub(super) memory: u64,
    /// Devices.
    pub(super) devices: usize,
    /// Names that only so many may hold at once.
    pub(super) limits: Vec<(String, usize)>,
}

/// What an instance holds while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Threads.
    pub(super) threads: usize,
    /// Bytes of memory.
    pub(super) memory: u64,
    /// The numbers of its devices; none if this run hands none out.
    pub(super) devices: Option<Vec<u32>>,
    /// The names that it holds.
    pub(super) limits: Vec<String>,
}

/// See the module's text.
pub(super) struct Pool {
    jobs: usize,
    threads: usize,
    memory: Option<u64>,
    hands_out: bool,
    running: usize,
    used_threads: usize,
    used_memory: u64,
    /// Device → how many more instances may use it.
    free: BTreeMap<u32, usize>,
    /// Name of a limit → how many instances hold it.
    held: BTreeMap<String, usize>,
}

impl Pool {
    pub(super) fn new(options: &RunOptions) -> Self {
        let mut free = BTreeMap::new();
        for device in &options.devices {
            *free.entry(*device).or_default() += 1;
        }
        Self {
            jobs: options.jobs.max(1),
            threads: options.threads.max(1),
            memory: options.memory,
            hands_out: !options.devices.is_empty(),
            running: 0,
            used_threads: 0,
            used_memory: 0,
            free,
            held: BTreeMap::new(),
        }
    }

    /// How many instances run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Whether no instance whatever can begin now.
    pub(super) fn is_full(&self) -> bool {
        self.running >= self.jobs
    }

    /// How many devices one instance can have at most; none if this run hands none out.
    pub(super) fn devices(&self) -> Option<usize> {
        self.hands_out.then_some(self.free.len())
    }

    /// Whether this is more memory than there is, so that whoever needs it runs alone.
    pub(super) fn exceeds_memory(&self, bytes: u64) -> Option<u64> {
        self.memory.filter(|memory| bytes > *memory)
    }

    /// How many of these could run side by side as far as limits go, at most as many as may run at all.
    pub(super) fn side_by_side<'a>(&self, limits: impl Iterator<Item = &'a BTreeMap<String, usize>>) -> usize {
        let mut held: BTreeMap<&str, usize> = self.held.iter().map(|(name, held)| (name.as_str(), *held)).collect();
        let mut fit = 0;
        for limits in limits {
            let has_room = |(name, most): (&String, &usize)| held.get(name.as_str()).is_none_or(|held| held < most);
            if fit == self.jobs || !limits.iter().all(has_room) {
                continue;
            }
            fit += 1;
            for name in limits.keys() {
                *held.entry(name).or_default() += 1;
            }
        }
        fit
    }

    /// Takes what an instance needs, if it is free. `candidates` instances could begin now, this one included: they get equal
    /// shares of the threads that are free.
    pub(super) fn take(&mut self, need: &Need, candidates: usize) -> Option<Share> {
        if self.is_full() {
            return None;
        }
        let holds = |name: &String| self.held.get(name).copied().unwrap_or(0);
        if need.limits.iter().any(|(name, most)| holds(name) >= *most) {
            return None;
        }
        let alone = self.running == 0;
        let free_threads = self.threads.saturating_sub(self.used_threads);
        let threads = match need.threads {
            Some(threads) => threads.min(self.threads),
            None => (free_threads / candidates.clamp(1, self.jobs - self.running)).max(1),
        };
        if !alone && need.threads.is_some() && threads > free_threads {
            return None;
        }
        let memory = self.used_memory.saturating_add(need.memory);
        if !alone && self.memory.is_some_and(|limit| memory > limit) {
            return None;
        }
        let wanted = if self.hands_out { need.devices } else { 0 };
        let mut devices: Vec<(usize, u32)> = self
            .free
            .iter()
            .filter(|(_, free)| **free > 0)
            .map(|(device, free)| (*free, *device))
            .collect();
        if devices.len() < wanted {
            return None;
        }
        // Those that fewest use come first; among equals the lowest number.
        devices.sort_by_key(|(free, device)| (std::cmp::Reverse(*free), *device));
        let mut devices: Vec<u32> = devices.into_iter().take(wanted).map(|(_, device)| device).collect();
        devices.sort_unstable();
        for device in &devices {
            *self.free.entry(*device).or_default() -= 1;
        }
        let limits: Vec<String> = need.limits.iter().map(|(name, _)| name.clone()).collect();
        for name in &limits {
            *self.held.entry(name.clone()).or_default() += 1;
        }
        self.running += 1;
        self.used_threads += threads;
        self.used_memory = memory;
        Some(Share {
            threads,
            memory: need.memory,
            devices: self.hands_out.then_some(devices),
            limits,
        })
    }

    /// Takes back what an instance held.
    pub(super) fn give_back(&mut self, share: &Share) {
        self.running -= 1;
        self.used_threads -= share.threads;
        self.used_memory -= share.memory;
        for device in share.devices.iter().flatten() {
            *self.free.entry(*device).or_default() += 1;
        }
        for name in &share.limits {
            if let Some(held) = self.held.get_mut(name) {
                *held -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(jobs: usize, threads: usize, memory: Option<u64>, devices: &[u32]) -> Pool {
        Pool::new(&RunOptions {
            jobs,
            threads,
            memory,
            devices: devices.to_vec(),
            ..RunOptions::default()
        })
    }

    fn need(threads: Option<usize>, memory: u64, devices: usize) -> Need {
        Need {
            threads,
            memory,
            devices,
            limits: Vec::new(),
        }
    }

    fn limited(limits: &[(&str, usize)]) -> Need {
        Need {
            limits: limits.iter().map(|(name, most)| ((*name).to_owned(), *most)).collect(),
            ..Need::default()
        }
    }

    #[test]
    fn threads_are_divided_among_what_runs() {
        let mut pool = pool(4, 8, None, &[]);
        let alone = pool.take(&Need::default(), 1).unwrap();
        assert_eq!(alone.threads, 8, "nothing else could begin before it ends");
        assert_eq!(
            pool.take(&Need::default(), 1).unwrap().threads,
            1,
            "and yet nothing waits"
        );
        pool.give_back(&alone);
        let shares: Vec<usize> = (0..3)
            .map(|taken| pool.take(&Need::default(), 3 - taken).unwrap().threads)
            .collect();
        assert_eq!(shares, [2, 2, 3]);
        assert!(pool.take(&Need::default(), 1).is_none(), "four jobs run");
    }

    #[test]
    fn what_was_asked_for_is_held_until_the_end() {
        let mut pool = pool(4, 4, Some(100), &[]);
        let three = pool.take(&need(Some(3), 60, 0), 2).unwrap();
        assert!(
            pool.take(&need(Some(2), 0, 0), 2).is_none(),
            "of four threads one is left"
        );
        assert!(pool.take(&need(Some(1), 50, 0), 2).is_none(), "40 bytes are left");
        let one = pool.take(&need(Some(1), 40, 0), 2).unwrap();
        pool.give_back(&three);
        pool.give_back(&one);
        let all = pool.take(&need(Some(64), 1000, 0), 2).unwrap();
        assert_eq!(all.threads, 4, "more than there is runs alone, with all there is");
        assert!(pool.take(&Need::default(), 1).is_none());
    }

    #[test]
    fn each_device_has_one_user_unless_it_is_listed_twice() {
        let mut pool = pool(8, 8, None, &[0, 0, 3]);
        let mut devices = |count| pool.take(&need(None, 0, count), 1).map(|share| share.devices.unwrap());
        assert_eq!(devices(0), Some(vec![]));
        assert_eq!(devices(2), Some(vec![0, 3]));
        assert_eq!(devices(2), None, "3 is taken");
        assert_eq!(devices(1), Some(vec![0]));
        assert_eq!(devices(1), None);
        let mut without = super::tests::pool(8, 8, None, &[]);
        assert_eq!(without.take(&need(None, 0, 1), 1).unwrap().devices, None);
    }

    #[test]
    fn a_limit_is_held_by_as_many_as_it_says() {
        let mut pool = pool(8, 8, None, &[]);
        let one = pool.take(&limited(&[("a", 2)]), 1).unwrap();
        let both = pool.take(&limited(&[("a", 2), ("b", 1)]), 1).unwrap();
        assert!(pool.take(&limited(&[("a", 2)]), 1).is_none());
        assert!(pool.take(&limited(&[("b", 1)]), 1).is_none());
        assert!(
            pool.take(&limited(&[]), 1).is_some(),
            "who names no limit does not wait"
        );
        pool.give_back(&one);
        let again = pool.take(&limited(&[("a", 2)]), 1).unwrap();
        pool.give_back(&both);
        assert!(pool.take(&limited(&[("a", 2), ("b", 1)]), 1).is_some());
        pool.give_back(&again);
    }

    #[test]
    fn what_a_limit_keeps_waiting_takes_no_share_of_the_threads() {
        let mut pool = pool(4, 8, None, &[]);
        let limits = BTreeMap::from([("a".to_owned(), 1)]);
        let waiting = |pool: &Pool, free: usize| {
            let free = std::iter::repeat_n(&BTreeMap::new(), free).cloned().collect::<Vec<_>>();
            pool.side_by_side(std::iter::repeat_n(&limits, 3).chain(&free))
        };
        assert_eq!([0, 1, 9].map(|free| waiting(&pool, free)), [1, 2, 4]);
        let alone = pool.take(&limited(&[("a", 1)]), 1).unwrap();
        assert_eq!((alone.threads, waiting(&pool, 0)), (8, 0));
    }

    proptest! {
        /// Whatever is asked for in whatever order: nothing is handed out twice, and everything comes to run.
        #[test]
        fn nothing_is_handed_out_twice_and_nothing_waits_for_ever(
            needs in prop::collection::vec((prop::option::of(1_usize..6), 0_u64..150, 0_usize..3), 1..40),
            jobs in 1_usize..5,
        ) {
            let mut pool = pool(jobs, 4, Some(100), &[0, 1]);
            let mut waiting: Vec<Need> = needs.into_iter().map(|(threads, memory, devices)| need(threads, memory, devices)).collect();
            let mut running: Vec<Share> = Vec::new();
            while !waiting.is_empty() {
                let candidates = waiting.len();
                let fits = (0..candidates).find_map(|at| Some((at, pool.take(&waiting[at], candidates)?)));
                match fits {
                    Some((at, share)) => {
                        waiting.remove(at);
                        running.push(share);
                    }
                    None => {
                        prop_assert!(!running.is_empty(), "nothing runs and nothing can begin");
                        pool.give_back(&running.remove(0));
                    }
                }
                let mut devices: Vec<u32> = running.iter().flat_map(|share| share.devices.clone().unwrap()).collect();
                let held = devices.len();
                devices.sort_unstable();
                devices.dedup();
                prop_assert_eq!(held, devices.len());
                prop_assert!(running.len() <= jobs);
                let memory: u64 = running.iter().map(|share| share.memory).sum();
                prop_assert!(memory <= 100 || running.len() == 1);
            }
        }
    }
}
