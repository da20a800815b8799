"""The training methods: each has networks and a loss; loop, data and evaluation are shared."""
