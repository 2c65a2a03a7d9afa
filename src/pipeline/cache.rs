//! Bounded memory for what was used lately: histories of busy records, and the bytes of documents.
//!
//! Two generations stand in for an exact order of use: what is used moves to the young one, and when that is half of
//! the limit it becomes the old one, whose rest is forgotten. Nothing here decides what is true; see
//! [`DocumentCache::fill`] for how a slow reader cannot put an outdated document in.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::store::{StoredDocument, TenantRecord};

/// A map that forgets what was not used for long, by weight.
pub struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_weight: usize,
    weight_max: usize,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    pub fn new(weight_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_weight: 0, weight_max }
    }

    /// Takes a value out.
    pub fn take(&mut self, key: &K) -> Option<(V, usize)> {
        if let Some((value, weight)) = self.young.remove(key) {
            self.young_weight -= weight;
            return Some((value, weight));
        }
        self.old.remove(key)
    }

    pub fn put(&mut self, key: K, value: V, weight: usize) {
        self.take(&key);
        if self.young_weight + weight > self.weight_max / 2 {
            self.old = mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight += weight;
        self.young.insert(key, (value, weight));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old).map(|(key, (value, _))| (key, value))
    }

    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_weight = 0;
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Generations<K, V> {
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (value, weight) = self.old.remove(key)?;
        self.put(key.clone(), value.clone(), weight);
        Some(value)
    }
}

/// Parts that are locked apart.
const SHARDS: usize = 16;
/// What an entry weighs beside its bytes.
const ENTRY_BYTES: usize = 512;

struct Shard {
    documents: Generations<TenantRecord, Arc<StoredDocument>>,
    /// Grows with every change of a document in this shard.
    changes: u64,
}

/// The documents that were read or written lately, as they are stored.
pub struct DocumentCache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

/// Where a reader found nothing; see [`DocumentCache::fill`].
#[derive(Clone, Copy)]
pub struct Gap {
    changes: u64,
}

impl DocumentCache {
    pub fn new(bytes_max: usize) -> Self {
        let shard = || Mutex::new(Shard { documents: Generations::new(bytes_max / SHARDS), changes: 0 });
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), hasher: RandomState::new() }
    }

    fn shard(&self, key: &TenantRecord) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn get(&self, key: &TenantRecord) -> Result<Arc<StoredDocument>, Gap> {
        let mut shard = self.shard(key);
        let changes = shard.changes;
        shard.documents.get(key).ok_or(Gap { changes })
    }

    /// Keeps what a reader has fetched from the store, unless something in this shard has changed since it looked.
    pub fn fill(&self, key: TenantRecord, document: Arc<StoredDocument>, gap: Gap) {
        let mut shard = self.shard(&key);
        if shard.changes == gap.changes {
            let weight = document.bytes.len() + ENTRY_BYTES;
            shard.documents.put(key, document, weight);
        }
    }

    /// Takes over what was just committed; `None` where the document is gone.
    pub fn set(&self, key: TenantRecord, document: Option<Arc<StoredDocument>>) {
        let mut shard = self.shard(&key);
        shard.changes += 1;
        match document {
            Some(document) => {
                let weight = document.bytes.len() + ENTRY_BYTES;
                shard.documents.put(key, document, weight);
            }
            None => {
                shard.documents.take(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut cache = Generations::new(10);
        for i in 0..100 {
            cache.put(i, i, 1);
            assert_eq!(cache.get(&0), Some(0), "after {i}");
        }
        let kept = (0..100).filter(|i| cache.take(i).is_some()).count();
        assert!((2..=10).contains(&kept), "{kept}");
    }
}
