-- include: base
-- Return the answer to each request, or nil. ARGV: keys of requests.

local reply = {}
for n, key in ipairs(cmsgpack.unpack(ARGV[1])) do
  local stored = redis.call('HGET', P .. 'r:' .. key.instance, key.life .. ':' .. key.id)
  reply[n] = stored and stored ~= '' and string.sub(stored, 2) or false
end
return reply
