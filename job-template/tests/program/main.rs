//! The program as a shell calls it, with a model that is small enough to be trained in a second.

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod data;
mod models;
mod predict;
mod recipe;
mod serve;
mod stop;
mod trace;
mod train;
