-- include: base
-- Return the turns of executions. ARGV: list of id and number.

local reply = {}
for n, asked in ipairs(cmsgpack.unpack(ARGV[1])) do
  reply[n] = redis.call('LRANGE', turns_key(asked[1], asked[2]), 0, -1)
end
return reply
