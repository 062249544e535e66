-- Moving what a store holds to another one.
--   fence  what the store knows of its last move: `fence`, packed by the client; while the store is
--          closed, `text`, which is said to all who want something; and `filling`, the id of the move,
--          while it is the closed destination of that

local function is_destination(move)
  return redis.call('HGET', P .. 'fence', 'filling') == move
end
