-- include: base
-- Return of each worker: id, name, its heartbeat, when it registered, what it serves, packed, how many
-- instances and activities it holds, and 1 if its lease is not over. What is not known is ''.

local reply = {}
local beats = redis.call('ZRANGE', P .. 'workers', 0, -1, 'WITHSCORES')
for at = 1, #beats, 2 do
  local worker = beats[at]
  local packed = redis.call('HGET', P .. 'serves', worker) or ''
  local read, serves = pcall(cmsgpack.unpack, packed)
  local lease = read and type(serves) == 'table' and serves[3]
  reply[#reply + 1] = {
    worker,
    redis.call('HGET', P .. 'names', worker) or '',
    beats[at + 1],
    redis.call('HGET', P .. 'started', worker) or '',
    packed,
    redis.call('ZCARD', P .. 'held:' .. worker),
    redis.call('SCARD', P .. 'running:' .. worker),
    (not lease or tonumber(beats[at + 1]) + lease >= now) and 1 or 0,
  }
end
return reply
