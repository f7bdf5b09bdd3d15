//! What waits for the model, and what it computes next. Without threads or a clock, which its caller has. A channel or
//! a semaphore would let one client's many texts wait before all others'.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::config::Limits;

/// Where a text's result goes.
pub(crate) trait Ticket {
    /// Whether the client is gone, and the result of no use.
    fn is_abandoned(&self) -> bool;
}

/// Why texts can't wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// They'll never fit.
    #[error("{texts} texts are more than the {most} that one request may have")]
    TooMany {
        /// Texts of the request.
        texts: usize,
        /// Texts that a request may have.
        most: usize,
    },
    /// A text is longer than a batch.
    #[error("a text has {tokens} tokens, and a batch at most {most}")]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of a batch.
        most: usize,
    },
    /// Too many texts wait.
    #[error("too many texts are waiting")]
    Full,
    /// Too many texts of this client wait.
    #[error("too many of your texts are waiting")]
    OverShare,
}

/// A text that waits.
#[derive(Debug)]
pub(crate) struct Text<T> {
    /// Its token ids.
    pub(crate) ids: Vec<u32>,
    /// Where its result goes.
    pub(crate) ticket: T,
}

/// Texts that wait. Each client has its turn: one text of each, in the order in which they came, and again
/// (round robin). So a client with many texts waits for them, and no other client does.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    limits: Limits,
    /// By client; none of them is empty.
    waiting: HashMap<IpAddr, VecDeque<Text<T>>>,
    /// Those who wait, the one who is next first.
    turns: VecDeque<IpAddr>,
    texts: usize,
    tokens: usize,
}

impl<T: Ticket> Batcher<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            texts: 0,
            tokens: 0,
        }
    }

    /// Texts that wait.
    pub(crate) fn len(&self) -> usize {
        self.texts
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.texts == 0
    }

    /// Whether `client` may bring so many texts now.
    pub(crate) fn check(&mut self, client: IpAddr, texts: usize) -> Result<(), Refusal> {
        let most = self.limits.client_texts();
        if texts > most {
            return Err(Refusal::TooMany { texts, most });
        }
        if self.refusal(client, texts).is_some() {
            self.drop_abandoned();
        }
        self.refusal(client, texts).map_or(Ok(()), Err)
    }

    /// Takes all of a request's texts, or none.
    pub(crate) fn push(&mut self, client: IpAddr, texts: Vec<Text<T>>) -> Result<(), Refusal> {
        let most = self.limits.batch_tokens;
        if let Some(text) = texts.iter().find(|text| text.ids.len() > most) {
            return Err(Refusal::TooLong {
                tokens: text.ids.len(),
                most,
            });
        }
        self.check(client, texts.len())?;
        if texts.is_empty() {
            return Ok(());
        }
        if !self.waiting.contains_key(&client) {
            self.turns.push_back(client);
        }
        self.texts += texts.len();
        self.tokens += texts.iter().map(|text| text.ids.len()).sum::<usize>();
        self.waiting.entry(client).or_default().extend(texts);
        Ok(())
    }

    /// The texts that are due, for one of `workers` that share them: at least one, and else at most
    /// `enough` tokens. Those of clients that are gone are dropped. Empty only if nothing
    /// waits.
    pub(crate) fn next_batch(&mut self, workers: usize, enough: usize) -> Vec<Text<T>> {
        self.drop_abandoned();
        let share = self
            .tokens
            .div_ceil(workers.max(1))
            .min(enough)
            .min(self.limits.batch_tokens);
        let mut batch = Vec::new();
        let mut tokens = 0;
        while let Some(&client) = self.turns.front() {
            let texts = self.waiting.get_mut(&client);
            let texts = texts.expect("who has a turn has a text");
            let text = texts.front().expect("none of them is empty");
            tokens += text.ids.len();
            if tokens > share && !batch.is_empty() {
                break;
            }
            self.turns.pop_front();
            batch.extend(texts.pop_front());
            if texts.is_empty() {
                self.waiting.remove(&client);
            } else {
                self.turns.push_back(client);
            }
        }
        self.texts -= batch.len();
        self.tokens -= batch.iter().map(|text| text.ids.len()).sum::<usize>();
        batch
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.turns.clear();
        self.texts = 0;
        self.tokens = 0;
    }

    fn refusal(&self, client: IpAddr, texts: usize) -> Option<Refusal> {
        let held = self.waiting.get(&client).map_or(0, VecDeque::len);
        if self.texts + texts > self.limits.queue_texts {
            Some(Refusal::Full)
        } else if held + texts > self.limits.client_texts() {
            Some(Refusal::OverShare)
        } else {
            None
        }
    }

    fn drop_abandoned(&mut self) {
        self.waiting.retain(|_, texts| {
            texts.retain(|text| !text.ticket.is_abandoned());
            !texts.is_empty()
        });
        let waiting = &self.waiting;
        self.turns.retain(|client| waiting.contains_key(client));
        let texts = waiting.values().flatten();
        (self.texts, self.tokens) = texts.fold((0, 0), |(texts, tokens), text| {
            (texts + 1, tokens + text.ids.len())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::Ipv4Addr;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Numbered {
        number: usize,
        is_abandoned: Rc<Cell<bool>>,
    }

    impl Ticket for Numbered {
        fn is_abandoned(&self) -> bool {
            self.is_abandoned.get()
        }
    }

    fn client(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn text(number: usize, tokens: usize) -> Text<Numbered> {
        let ticket = Numbered {
            number,
            is_abandoned: Rc::default(),
        };
        Text {
            ids: vec![0; tokens],
            ticket,
        }
    }

    /// One client may fill half of the queue.
    fn batcher(batch_tokens: usize, queue_texts: usize) -> Batcher<Numbered> {
        Batcher::new(Limits {
            batch_tokens,
            queue_texts,
            ..Limits::default()
        })
    }

    #[test]
    fn a_request_counts_as_its_texts() {
        let mut batcher = batcher(10, 5);
        let three = |first| (first..first + 3).map(|number| text(number, 1)).collect();
        assert_eq!(batcher.push(client(1), three(0)), Ok(()));
        assert_eq!(batcher.push(client(2), three(3)), Err(Refusal::Full));
        assert_eq!(batcher.push(client(2), vec![text(6, 1)]), Ok(()));
    }

    #[test]
    fn one_client_cannot_fill_the_queue() {
        let mut batcher = batcher(10, 4);
        assert_eq!(
            batcher.push(client(1), vec![text(0, 1), text(1, 1)]),
            Ok(())
        );
        assert_eq!(
            batcher.push(client(1), vec![text(2, 1)]),
            Err(Refusal::OverShare)
        );
        assert_eq!(batcher.push(client(2), vec![text(3, 1)]), Ok(()));
    }

    #[test]
    fn what_can_never_fit_is_refused_at_the_door() {
        let mut batcher = batcher(10, 4);
        let refusal = Refusal::TooLong {
            tokens: 11,
            most: 10,
        };
        assert_eq!(batcher.push(client(1), vec![text(0, 11)]), Err(refusal));
        let refusal = Refusal::TooMany { texts: 3, most: 2 };
        assert_eq!(batcher.check(client(1), 3), Err(refusal));
        assert_eq!(batcher.len(), 0);
    }

    #[test]
    fn abandoned_texts_make_room() {
        let mut batcher = batcher(10, 1);
        let first = text(0, 1);
        let is_abandoned = Rc::clone(&first.ticket.is_abandoned);
        batcher.push(client(1), vec![first]).unwrap();
        assert_eq!(batcher.check(client(1), 1), Err(Refusal::Full));
        is_abandoned.set(true);
        assert_eq!(batcher.check(client(1), 1), Ok(()));
    }

    #[test]
    fn workers_share_what_waits() {
        let mut batcher = batcher(100, 16);
        batcher
            .push(client(1), (0..8).map(|number| text(number, 10)).collect())
            .unwrap();
        assert_eq!(batcher.next_batch(2, 100).len(), 4);
        assert_eq!(batcher.next_batch(1, 100).len(), 4);
    }

    #[test]
    fn a_client_with_one_text_does_not_wait_for_one_with_many() {
        let mut batcher = batcher(10, 16);
        let mut came = 0..;
        let mut bring = |batcher: &mut Batcher<_>, from, texts| {
            let texts = came.by_ref().take(texts).map(|number| text(number, 1));
            batcher.push(client(from), texts.collect()).unwrap();
        };
        let next = |batcher: &mut Batcher<Numbered>| batcher.next_batch(1, 1)[0].ticket.number;
        bring(&mut batcher, 1, 4);
        assert_eq!(next(&mut batcher), 0);
        bring(&mut batcher, 2, 1);
        bring(&mut batcher, 3, 2);
        bring(&mut batcher, 1, 1);
        let order: Vec<_> = (0..7).map(|_| next(&mut batcher)).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3, 7]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { client: u8, tokens: Vec<usize> },
        Take { workers: usize, enough: usize },
        Abandon { nth: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..3_u8, prop::collection::vec(1..14_usize, 1..6))
                .prop_map(|(client, tokens)| Step::Push { client, tokens }),
            2 => (1..4_usize, 1..14_usize).prop_map(|(workers, enough)| Step::Take { workers, enough }),
            1 => (0..64_usize).prop_map(|nth| Step::Abandon { nth }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Against plain lists: limits hold, a client's texts keep their order, nothing is lost or comes
        /// twice, and no client has two turns while another that waits has none.
        #[test]
        fn batches_are_what_came_in_turn(steps in prop::collection::vec(step(), 1..60)) {
            let mut batcher = batcher(12, 9);
            let mut model: Vec<(u8, usize, Numbered)> = Vec::new();
            // How often each has had its turn since each other began to wait.
            let mut turns: HashMap<(u8, u8), usize> = HashMap::new();
            let mut number = 0;
            for step in steps {
                match step {
                    Step::Push { client: from, tokens } => {
                        let texts: Vec<_> =
                            tokens.iter().map(|tokens| { number += 1; text(number, *tokens) }).collect();
                        let tickets: Vec<_> =
                            texts.iter().map(|text| (text.ids.len(), text.ticket.clone())).collect();
                        let wanted = model.iter().filter(|(_, _, ticket)| !ticket.is_abandoned());
                        let (all, own) = wanted.fold((0, 0), |(all, own), (of, _, _)| {
                            (all + 1, own + usize::from(*of == from))
                        });
                        let fits = tokens.iter().all(|tokens| *tokens <= 12)
                            && all + tokens.len() <= 9
                            && own + tokens.len() <= 5;
                        prop_assert_eq!(batcher.push(client(from), texts).is_ok(), fits);
                        if fits {
                            let waits = |(of, _, ticket): &(u8, usize, Numbered)| {
                                *of == from && !ticket.is_abandoned()
                            };
                            if !model.iter().any(waits) {
                                turns.retain(|(_, waits), _| *waits != from);
                            }
                            model.extend(tickets.into_iter().map(|(tokens, ticket)| (from, tokens, ticket)));
                        }
                    }
                    Step::Take { workers, enough } => {
                        let batch = batcher.next_batch(workers, enough);
                        model.retain(|(_, _, ticket)| !ticket.is_abandoned());
                        prop_assert_eq!(batch.is_empty(), model.is_empty());
                        prop_assert!(batch.iter().map(|text| text.ids.len()).sum::<usize>() <= 12);
                        for text in &batch {
                            let at = model.iter().position(|(_, _, ticket)| ticket.number == text.ticket.number);
                            prop_assert!(at.is_some(), "it waited");
                            let (of, _, _) = model.remove(at.unwrap());
                            let is_first = !model[..at.unwrap()].iter().any(|(other, _, _)| *other == of);
                            prop_assert!(is_first, "a client's texts keep their order");
                            turns.retain(|(_, waits), _| *waits != of);
                            for other in 0..3 {
                                if other != of && model.iter().any(|(waits, _, _)| *waits == other) {
                                    let count = turns.entry((of, other)).or_default();
                                    *count += 1;
                                    prop_assert!(*count <= 1, "{of} has {count} turns, and {other} none");
                                }
                            }
                        }
                    }
                    Step::Abandon { nth } => {
                        if let Some((_, _, ticket)) = model.get(nth) {
                            ticket.is_abandoned.set(true);
                        }
                    }
                }
                prop_assert!(batcher.len() <= 9);
            }
        }
    }
}
