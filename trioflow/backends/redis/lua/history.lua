-- include: base
-- Return number and turns of each execution. ARGV: id.

local current = tonumber(redis.call('HGET', P .. 'i:' .. ARGV[1], 'execution') or 0) or 0
local reply = {}
for number = 1, current do
  local turns = redis.call('LRANGE', turns_key(ARGV[1], number), 0, -1)
  if #turns > 0 or number == current then
    reply[#reply + 1] = { number, turns }
  end
end
return reply
