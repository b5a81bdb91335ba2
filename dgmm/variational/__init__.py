"""The ELBO, its schedule, training, and posterior collapse."""
