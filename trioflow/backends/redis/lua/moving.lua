-- Moving what a store holds to another one.
--   fence  what the store knows of its last move: `fence`, packed by the client; while the store is
--          closed, `text`, which is said to all who want something; and the id of the move: `filling`,
--          while it is the closed destination of that, or `emptying`, when it is being cleared

local function is_destination(move)
  return redis.call('HGET', P .. 'fence', 'filling') == move
end

local function is_emptied(move)
  return redis.call('HGET', P .. 'fence', 'emptying') == move
end
