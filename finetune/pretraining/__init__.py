"""`reshelf pretrain`: a small language model of a catalogue and its sessions, from nothing."""
