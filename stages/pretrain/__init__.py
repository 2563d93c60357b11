"""Stage `pretrain`: continual pretraining with replay."""
