"""The methods: each is networks + loss, and all share one loop, one data path, one evaluation."""
