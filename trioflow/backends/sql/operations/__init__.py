"""What the methods of `Backend` do: functions that take a `SqlStore` first."""
