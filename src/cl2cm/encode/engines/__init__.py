"""Where shards are encoded: in this process, in processes of this machine, or by Ray Data."""
