"""Where weights come from: open_clip, the hub, the published code."""
