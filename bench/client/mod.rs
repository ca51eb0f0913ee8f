//! Clients as processes of their own, whose loops do nothing but what is measured.

pub mod rates;
