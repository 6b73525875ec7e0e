"""How a task may lie on disk, a module a layout. `bench.data.folder` tells them apart; nothing else need know them."""
