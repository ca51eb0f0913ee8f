//! How long, how many, how large, how far: what ext4 takes is taken, and what it refuses is refused with the same
//! error; where the two differ, the difference is written out, and stands in the README.

mod directories;
mod files;
mod links;
mod names;
mod quota;
mod refusals;
mod sizes;
mod times;
