"""Stage `tokens`: tokenizer, packed token shards, fertility."""
