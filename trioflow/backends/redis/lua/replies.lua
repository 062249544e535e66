-- include: base
-- Return the answer to each question, or nil. ARGV: ids of questions.

local reply = {}
for n, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  local stored = redis.call('HGET', P .. 'q:' .. id, 'answer')
  reply[n] = stored and string.sub(stored, 2) or false
end
return reply
