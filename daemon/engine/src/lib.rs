//! Effects: the worker, its consumers and their children, over three traits.
